//! Flags of the health check.

use davit_proto::container::HealthCheck;

use super::Invalid;
use crate::args::run::HealthArgs;
use crate::error::Error;
use crate::human;

/// The check that the flags describe; none without any of them.
pub fn of(args: &HealthArgs) -> Result<Option<HealthCheck>, Error> {
    let said = args.health_cmd.is_some()
        || args.health_interval.is_some()
        || args.health_timeout.is_some()
        || args.health_start_period.is_some()
        || args.health_retries.is_some();
    if args.no_healthcheck {
        if said {
            return Err(Error::Usage(
                "--no-healthcheck and the other --health flags exclude each other".into(),
            ));
        }
        return Ok(Some(HealthCheck { test: vec!["NONE".into()], ..HealthCheck::default() }));
    }
    if !said {
        return Ok(None);
    }
    Ok(Some(HealthCheck {
        test: args.health_cmd.iter().flat_map(|command| ["CMD-SHELL".to_owned(), command.clone()]).collect(),
        interval: duration("--health-interval", args.health_interval.as_deref())?,
        timeout: duration("--health-timeout", args.health_timeout.as_deref())?,
        start_period: duration("--health-start-period", args.health_start_period.as_deref())?,
        retries: args.health_retries.unwrap_or(0),
        on_failure: 0,
        start_interval: None,
    }))
}

fn duration(flag: &str, text: Option<&str>) -> Result<Option<prost_types::Duration>, Invalid> {
    text.map(|text| {
        human::parse_duration(text)
            .map(davit_proto::time::proto_duration)
            .ok_or_else(|| Invalid::new(flag, text, "a duration such as 30s is wanted"))
    })
    .transpose()
}
