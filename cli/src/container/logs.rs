//! `davit logs`.

use std::io::Write as _;
use std::time::SystemTime;

use davit_proto::container::{InspectRequest, LogLine, LogsRequest, containers_client::ContainersClient};
use davit_proto::status::RemoteError;
use davit_proto::types::Stdio;
use prost_types::Timestamp;

use crate::args::container::LogsArgs;
use crate::client::Engine;
use crate::error::Error;
use crate::patience::{self, Patience};
use crate::spec::Invalid;
use crate::{exit, many, time, usage};

/// Prints the logs of containers: those of several one after the other, or as they grow all at once.
pub async fn run(engine: Engine, args: LogsArgs) -> Result<u8, Error> {
    let now = SystemTime::now();
    let moment = |flag, text: Option<&String>| text.map(|text| time::parse(flag, text, now)).transpose();
    let request = LogsRequest {
        container: String::new(),
        follow: args.follow,
        tail: tail(&args.tail)?,
        since: moment("--since", args.since.as_ref())?,
        until: moment("--until", args.until.as_ref())?,
        stdout: true,
        stderr: true,
        joined: true,
    };
    args.target.containers.iter().try_for_each(|name| usage::check_target(name))?;
    let request = |name: &String| LogsRequest { container: name.clone(), ..request.clone() };
    if let [name] = args.target.containers.as_slice() {
        let printer = Printer { timestamps: args.timestamps, ..Printer::default() };
        follow(&engine, request(name), printer).await?;
        return Ok(exit::SUCCESS);
    }
    let (engine, args) = (&engine, &args);
    let one = async move |name: String| {
        let begin = begin(engine, &name, args.names).await?;
        let printer = Printer { timestamps: args.timestamps, begin, ..Printer::default() };
        follow(engine, request(&name), printer).await.map(|()| String::new())
    };
    let names = args.target.containers.clone();
    if args.follow { many::together(names, one).await } else { many::in_turn(names, one).await }
}

/// What stands before each line of one of several containers.
async fn begin(engine: &Engine, name: &str, named: bool) -> Result<String, Error> {
    let request = InspectRequest { container: name.to_owned(), size: false };
    let answer = engine.containers().await?.inspect(request).await.map_err(RemoteError::from)?;
    let container = answer.into_inner().container.unwrap_or_default();
    let short = container.id.get(..12).unwrap_or(&container.id);
    Ok(format!("{} ", if named { &container.name } else { short }))
}

/// Prints one log, across a restart of the engine when it is followed.
async fn follow(engine: &Engine, request: LogsRequest, mut printer: Printer) -> Result<(), Error> {
    match read(engine.containers().await?, request.clone(), &mut printer).await {
        Err(error) if request.follow && patience::is_away(&error) => {
            resume(engine, &request, &mut printer).await
        }
        answer => answer,
    }
}

/// `all`, a number, or a negative one for all.
fn tail(text: &str) -> Result<Option<u64>, Invalid> {
    if text == "all" || text.strip_prefix('-').is_some_and(|rest| rest.parse::<u64>().is_ok()) {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Invalid::new("--tail", text, "a number of lines or \"all\" is wanted"))
}

async fn read(
    mut containers: ContainersClient<tonic::transport::Channel>,
    request: LogsRequest,
    printer: &mut Printer,
) -> Result<(), Error> {
    let mut answer = containers.logs(request).await.map_err(RemoteError::from)?.into_inner();
    while let Some(lines) = answer.message().await.map_err(RemoteError::from)? {
        printer.print(&lines.lines)?;
    }
    Ok(())
}

/// Goes on after the last line that was printed, once the engine is back.
async fn resume(engine: &Engine, request: &LogsRequest, printer: &mut Printer) -> Result<(), Error> {
    let mut patience = Patience::new();
    loop {
        let printed = printer.last;
        let request = LogsRequest {
            // Everything since the last line, not only its last so many.
            tail: if printed.is_some() { None } else { request.tail },
            since: printed.or(request.since),
            ..request.clone()
        };
        printer.skip = printer.at_last;
        match read(engine.containers().await?, request, printer).await {
            Err(error) if patience::is_away(&error) => {
                if printer.last != printed {
                    // It was there in between.
                    patience = Patience::new();
                }
                if !patience.is_left().await {
                    return Err(error);
                }
            }
            answer => return answer,
        }
    }
}

/// Prints lines to our two streams as they are, and remembers how far it came.
#[derive(Debug, Default)]
struct Printer {
    timestamps: bool,
    /// What each line begins with.
    begin: String,
    /// Time of the last line, and how many bytes of that time were printed.
    last: Option<Timestamp>,
    at_last: u64,
    /// Bytes of that time to leave out, because they were printed before.
    skip: u64,
    /// Whether the last line of each stream was without its end.
    open: [bool; 2],
    /// What is about to be printed.
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Printer {
    fn print(&mut self, lines: &[LogLine]) -> Result<(), Error> {
        let (mut out, mut err) = (std::mem::take(&mut self.out), std::mem::take(&mut self.err));
        for line in lines {
            let data = self.fresh(line);
            let is_err = line.stream() == Stdio::Stderr;
            // What was collected for the other stream comes first, so that both keep their order.
            if !(if is_err { &out } else { &err }).is_empty() {
                write(&mut out, &mut err)?;
            }
            let bytes = if is_err { &mut err } else { &mut out };
            self.put(data, line.at, usize::from(is_err), bytes);
        }
        write(&mut out, &mut err)?;
        (self.out, self.err) = (out, err);
        Ok(())
    }

    /// What of it was not printed yet. Bytes are counted, for a moment's lines may come in other pieces the second time.
    fn fresh<'a>(&mut self, line: &'a LogLine) -> &'a [u8] {
        if line.at != self.last {
            (self.last, self.at_last, self.skip) = (line.at, 0, 0);
        }
        let known = usize::try_from(self.skip).unwrap_or(usize::MAX).min(line.data.len());
        let fresh = line.data.get(known..).unwrap_or_default();
        self.skip -= known as u64;
        self.at_last += fresh.len() as u64;
        fresh
    }

    fn put(&mut self, data: &[u8], at: Option<Timestamp>, stream: usize, bytes: &mut Vec<u8>) {
        if !self.timestamps && self.begin.is_empty() {
            bytes.extend_from_slice(data);
            return;
        }
        for line in data.split_inclusive(|&byte| byte == b'\n') {
            let continues = self.open.get(stream).copied().unwrap_or(false);
            if !continues {
                bytes.extend_from_slice(self.begin.as_bytes());
                if let Some(at) = at.as_ref().filter(|_| self.timestamps) {
                    bytes.extend_from_slice(time::fixed(at).as_bytes());
                    bytes.push(b' ');
                }
            }
            bytes.extend_from_slice(line);
            if let Some(open) = self.open.get_mut(stream) {
                *open = !line.ends_with(b"\n");
            }
        }
    }
}

fn write(out: &mut Vec<u8>, err: &mut Vec<u8>) -> Result<(), Error> {
    if !out.is_empty() {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(out).and_then(|()| stdout.flush()).map_err(Error::output)?;
        out.clear();
    }
    if !err.is_empty() {
        std::io::stderr().lock().write_all(err).map_err(Error::output)?;
        err.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seconds: i64, data: &str) -> LogLine {
        LogLine {
            stream: Stdio::Stdout.into(),
            at: Some(Timestamp { seconds, nanos: 5 }),
            data: data.as_bytes().to_vec().into(),
        }
    }

    fn shown(printer: &mut Printer, lines: &[LogLine]) -> String {
        let mut bytes = Vec::new();
        for line in lines {
            let fresh = printer.fresh(line);
            printer.put(fresh, line.at, 0, &mut bytes);
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_in_parts_has_one_time() {
        let mut printer = Printer { timestamps: true, ..Printer::default() };
        let text = shown(&mut printer, &[line(1, "a"), line(2, "b\n"), line(3, "c\n")]);
        assert_eq!(text, "1970-01-01T00:00:01.000000005Z ab\n1970-01-01T00:00:03.000000005Z c\n");
    }

    #[test]
    fn lines_of_one_moment_have_a_time_each() {
        let mut printer = Printer { timestamps: true, ..Printer::default() };
        let text = shown(&mut printer, &[line(1, "a\nb\nc"), line(1, "d\n")]);
        let at = "1970-01-01T00:00:01.000000005Z";
        assert_eq!(text, format!("{at} a\n{at} b\n{at} cd\n"));
    }

    #[test]
    fn lines_of_several_begin_with_whose_they_are() {
        let mut printer = Printer { begin: "web ".to_owned(), ..Printer::default() };
        assert_eq!(shown(&mut printer, &[line(1, "a"), line(2, "b\n"), line(3, "\n")]), "web ab\nweb \n");
    }

    #[test]
    fn after_a_break_nothing_is_printed_twice() {
        let mut printer = Printer::default();
        assert_eq!(shown(&mut printer, &[line(1, "a\n"), line(2, "b\n"), line(2, "c\n")]), "a\nb\nc\n");
        assert_eq!((printer.last.unwrap().seconds, printer.at_last), (2, 4));
        printer.skip = printer.at_last;
        assert_eq!(
            shown(&mut printer, &[line(2, "b\nc"), line(2, "\nd\n"), line(3, "e\n")]),
            "d\ne\n",
            "in other pieces"
        );
        assert_eq!((printer.last.unwrap().seconds, printer.at_last), (3, 2));
    }

    #[test]
    fn tails() {
        assert_eq!((tail("all").unwrap(), tail("-1").unwrap(), tail("5").unwrap()), (None, None, Some(5)));
        assert!(tail("x").is_err());
    }
}
