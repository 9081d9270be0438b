//! Flags of the health check.

use davit_proto::container::{HealthAction, HealthCheck};

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
        || args.health_start_interval.is_some()
        || args.health_on_failure.is_some()
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
        on_failure: args.health_on_failure.as_deref().map_or(Ok(HealthAction::Unspecified), action)?.into(),
        start_interval: duration("--health-start-interval", args.health_start_interval.as_deref())?,
    }))
}

fn action(text: &str) -> Result<HealthAction, Invalid> {
    match text {
        "none" => Ok(HealthAction::None),
        "kill" => Ok(HealthAction::Kill),
        "restart" => Ok(HealthAction::Restart),
        "stop" => Ok(HealthAction::Stop),
        _ => Err(Invalid::new("--health-on-failure", text, "none, kill, restart or stop is wanted")),
    }
}

fn duration(flag: &str, text: Option<&str>) -> Result<Option<prost_types::Duration>, Invalid> {
    text.map(|text| {
        human::parse_duration(text)
            .map(davit_proto::time::proto_duration)
            .ok_or_else(|| Invalid::new(flag, text, "a duration such as 30s is wanted"))
    })
    .transpose()
}
