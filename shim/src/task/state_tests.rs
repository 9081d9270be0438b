//! The state machine against a model that knows only a phase and two numbers.

use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

/// What the model knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Model {
    /// 0 empty, 1 prepared, 2 created, 3 running, 4 stopped.
    phase: u8,
    /// The present life while running or stopped, else the last one.
    life: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Ask(Command),
    /// The init process dies by itself.
    Die,
}

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        Just(Command::Prepare),
        Just(Command::Reserve),
        Just(Command::Configure),
        (0_u64..5).prop_map(|life| Command::Start { life }),
        Just(Command::Kill),
        Just(Command::Stop),
        any::<bool>().prop_map(|force| Command::Delete { force }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![8 => commands().prop_map(Step::Ask), 1 => Just(Step::Die)];
    prop::collection::vec(step, 0..30)
}

fn phase(task: &Task<u32>) -> u8 {
    match task {
        Task::Empty => 0,
        Task::Prepared { .. } => 1,
        Task::Created { .. } => 2,
        Task::Running { .. } => 3,
        Task::Stopped { .. } => 4,
    }
}

/// The rules, said another way: by order of phases.
fn expected(model: Model, command: Command) -> Option<Admit> {
    use Admit::{Proceed, Repeat};
    let Model { phase, life } = model;
    let by_phase = |table: [Option<Admit>; 5]| table[usize::from(phase)];
    match command {
        Command::Prepare => by_phase([Some(Proceed), Some(Repeat), Some(Repeat), Some(Repeat), None]),
        Command::Reserve => by_phase([None, Some(Proceed), Some(Proceed), Some(Proceed), None]),
        Command::Configure => by_phase([None, Some(Proceed), Some(Repeat), Some(Repeat), None]),
        Command::Start { life: 0 } => None,
        Command::Start { life: asked } => match phase {
            2 => (asked > life).then_some(Proceed),
            3 | 4 => (asked == life).then_some(Repeat),
            _ => None,
        },
        Command::Kill => (phase == 3).then_some(Proceed),
        Command::Stop => by_phase([None, None, None, Some(Proceed), Some(Repeat)]),
        Command::Delete { force } => (force || phase != 3).then_some(Proceed),
    }
}

/// What the driver does with an admitted command, and the model with it.
fn proceed(task: Task<u32>, model: &mut Model, command: Command, last_life: u64) -> Task<u32> {
    match command {
        Command::Prepare => {
            model.phase = 1;
            task.apply(Event::Prepared { init: 7 })
        }
        Command::Configure => {
            *model = Model { phase: 2, life: last_life };
            task.apply(Event::Configured { last_life })
        }
        Command::Start { life } => {
            *model = Model { phase: 3, life };
            task.apply(Event::Started { life, at: UNIX_EPOCH })
        }
        _ => task,
    }
}

fn die(task: Task<u32>, model: &mut Model) -> Task<u32> {
    let life = match &task {
        Task::Running { life, .. } => *life,
        _ => 0,
    };
    if (1..4).contains(&model.phase) {
        *model = Model { phase: 4, life };
    }
    task.apply(Event::Ended { exit: Exit { life, ..Exit::default() } })
}

proptest! {
    #[test]
    fn every_walk_agrees_with_the_model(steps in steps(), last_life in 0_u64..3) {
        let mut task: Task<u32> = Task::Empty;
        let mut model = Model { phase: 0, life: 0 };
        for step in steps {
            match step {
                Step::Die => task = die(task, &mut model),
                Step::Ask(command) => {
                    let decision = admit(&task, command);
                    prop_assert_eq!(decision.ok(), expected(model, command), "{:?} in {:?}", command, model);
                    if decision == Ok(Admit::Proceed) {
                        task = proceed(task, &mut model, command, last_life);
                    }
                }
            }
            prop_assert_eq!(phase(&task), model.phase);
            prop_assert_eq!(task.init().is_some(), model.phase > 0);
            prop_assert_eq!(task.living().is_some(), (1..4).contains(&model.phase));
        }
    }

    #[test]
    fn a_command_that_proceeded_is_a_repeat_until_the_end(life in 1_u64..9) {
        let mut task: Task<u32> = Task::Empty;
        let mut model = Model { phase: 0, life: 0 };
        for command in [Command::Prepare, Command::Configure, Command::Start { life }] {
            prop_assert_eq!(admit(&task, command), Ok(Admit::Proceed));
            task = proceed(task, &mut model, command, 0);
            prop_assert_eq!(admit(&task, command), Ok(Admit::Repeat));
        }
        task = die(task, &mut model);
        prop_assert_eq!(admit(&task, Command::Start { life }), Ok(Admit::Repeat));
        prop_assert_eq!(admit(&task, Command::Start { life: life + 1 }), Err(Denied::Ended));
    }
}

#[test]
fn events_that_cannot_happen_change_nothing() {
    let stray = |task: Task<u32>| task.apply(Event::Started { life: 1, at: UNIX_EPOCH });
    assert!(matches!(stray(Task::Empty), Task::Empty));
    assert!(matches!(stray(Task::Prepared { init: 1 }), Task::Prepared { init: 1 }));
    let ended: Task<u32> = Task::Empty.apply(Event::Ended { exit: Exit::default() });
    assert!(matches!(ended, Task::Empty));
}
