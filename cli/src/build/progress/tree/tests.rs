//! Pictures of builds on canvases of given sizes.

use std::time::Duration;

use davit_proto::build::build_response::Event;
use davit_proto::build::{Output, Part, Planned, Step as WireStep, StepState};
use proptest::prelude::*;

use super::*;

/// A build at a time that the test says.
struct Build {
    record: Record,
    begun: Instant,
}

impl Build {
    fn new() -> Self {
        let begun = Instant::now();
        Self { record: Record::new(begun), begun }
    }

    fn at(&self, millis: u64) -> Instant {
        self.begun + Duration::from_millis(millis)
    }

    fn step(&mut self, millis: u64, number: u32, name: &str, state: StepState) {
        let step = WireStep { number, name: name.to_owned(), state: state.into(), took: None };
        self.record.event(Event::Step(step), self.at(millis));
    }

    fn say(&mut self, number: u32, text: &str) {
        let output = Output { number, data: text.as_bytes().to_vec().into(), stderr: false };
        self.record.event(Event::Output(output), self.begun);
    }

    fn picture(&self, millis: u64, columns: usize, rows: usize) -> Vec<String> {
        let canvas = Canvas { columns, rows: Some(rows), colours: false };
        picture(&self.record, Stand::Running, &canvas, self.at(millis))
    }
}

fn small() -> Build {
    let mut build = Build::new();
    build.record.event(Event::Planned(Planned { steps: 4 }), build.begun);
    build.step(0, 1, "[internal] load build context", StepState::Running);
    let part =
        Part { number: 1, name: "transferring context".into(), current: 2100, total: 2100, done: true };
    build.record.event(Event::Part(part), build.begun);
    build.step(100, 1, "", StepState::Done);
    build.step(100, 2, "[1/2] FROM busybox", StepState::Running);
    build.step(100, 2, "", StepState::Cached);
    build.step(200, 3, "[2/2] RUN make", StepState::Running);
    build.say(3, "cc -c main.c\ncc -o main main.o\n");
    build
}

#[test]
fn a_build_that_goes_on() {
    let shown = small().picture(1500, 50, 24);
    let timed = |text: &str, time: &str| format!("{text:<46}{time}");
    let wanted = [
        "[+] Building 1.5s (2/4)".to_owned(),
        timed(" => [internal] load build context", "0.1s"),
        timed(" => => transferring context: 2.1kB", "0.0s"),
        timed(" => CACHED [1/2] FROM busybox", "0.0s"),
        timed(" => [2/2] RUN make", "1.3s"),
        " => => # cc -c main.c".to_owned(),
        " => => # cc -o main main.o".to_owned(),
    ];
    assert_eq!(shown, wanted);
}

#[test]
fn the_end_shows_every_step_however_many_there_are() {
    let mut build = Build::new();
    for number in 1..=50 {
        build.step(0, number, &format!("step {number}"), StepState::Running);
        build.step(0, number, "", StepState::Done);
    }
    let canvas = Canvas { columns: 40, rows: None, colours: false };
    let shown = picture(&build.record, Stand::Finished, &canvas, build.at(0));
    assert_eq!((shown.len(), shown[0].as_str()), (51, "[+] Building 0.0s (50/50) FINISHED"));
}

#[test]
fn what_goes_on_comes_first_where_there_is_little_room() {
    let mut build = Build::new();
    build.step(0, 1, "slow", StepState::Running);
    build.say(1, "one\ntwo\nthree\n");
    for number in 2..=9 {
        build.step(0, number, &format!("quick {number}"), StepState::Running);
        build.step(0, number, "", StepState::Done);
    }
    let shown = build.picture(0, 30, 6);
    assert_eq!(shown.len(), 6, "{shown:#?}");
    assert!(shown[1].contains("slow") && shown[4].contains("three"), "{shown:#?}");
    assert!(shown[5].contains("quick 9"), "{shown:#?}");
    assert!(build.picture(0, 30, 2)[1].contains("slow"));
}

#[test]
fn colours_only_where_they_are_wanted_and_wide_characters_in_their_width() {
    let mut build = Build::new();
    build.step(0, 1, "[1/1] RUN echo 你好世界你好世界你好世界", StepState::Running);
    let line = &build.picture(0, 30, 5)[1];
    assert_eq!(measure_text_width(line), 30, "{line:?}");
    build.record.fail(Some(1), build.begun);
    let canvas = Canvas { columns: 30, rows: None, colours: true };
    let shown = picture(&build.record, Stand::Ended, &canvas, build.begun);
    assert!(
        shown[1].starts_with("\u{1b}[31m => ERROR [1/1]") && shown[1].ends_with("\u{1b}[0m"),
        "{shown:?}"
    );
    assert!(!build.picture(0, 30, 5)[1].contains('\u{1b}'));
}

proptest! {
    #[test]
    fn a_picture_is_never_larger_than_its_canvas(
        columns in 1..120_usize,
        rows in 1..40_usize,
        names in proptest::collection::vec("\\PC{0,60}", 0..30),
        running in 0..30_usize,
        said in "\\PC{0,90}",
    ) {
        let mut build = Build::new();
        for (index, name) in names.iter().enumerate() {
            let number = u32::try_from(index).unwrap() + 1;
            build.step(0, number, name, StepState::Running);
            for _ in 0..9 {
                build.say(number, &format!("{said}\n"));
            }
            if index >= running {
                build.step(0, number, name, StepState::Done);
            }
        }
        let shown = build.picture(999_999, columns, rows);
        prop_assert!(shown.len() <= rows);
        for line in shown {
            prop_assert!(measure_text_width(&line) <= columns, "{line:?} in {columns}");
        }
    }
}
