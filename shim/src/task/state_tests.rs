//! The state machine against a model that knows only a phase and two numbers.

use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

/// What the model knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Model {
    /// 0 empty, 1 prepared, 2 created, 3 running, 4 paused, 5 restarting, 6 stopped.
    phase: u8,
    /// The present life while running or paused, else the last one.
    life: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Ask(Command),
    /// The init process dies by itself; whether the policy starts it again.
    Die {
        again: bool,
    },
}

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        Just(Command::Prepare),
        Just(Command::Reserve),
        Just(Command::Configure),
        (0_u64..5).prop_map(|life| Command::Start { life }),
        any::<bool>().prop_map(|is_last| Command::Kill { is_last }),
        Just(Command::Exec),
        Just(Command::Pause),
        Just(Command::Resume),
        Just(Command::Stop),
        any::<bool>().prop_map(|force| Command::Delete { force }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![8 => commands().prop_map(Step::Ask), 2 => any::<bool>().prop_map(|again| Step::Die { again })];
    prop::collection::vec(step, 0..30)
}

fn phase(task: &Task<u32>) -> u8 {
    match task {
        Task::Empty => 0,
        Task::Prepared { .. } => 1,
        Task::Created { .. } => 2,
        Task::Running { .. } => 3,
        Task::Paused { .. } => 4,
        Task::Restarting { .. } => 5,
        Task::Stopped { .. } => 6,
    }
}

/// The rules, said another way: by order of phases.
fn expected(model: Model, command: Command) -> Option<Admit> {
    use Admit::{Proceed, Repeat};
    let Model { phase, life } = model;
    let from_to = |from, to, admitted| (from..=to).contains(&phase).then_some(admitted);
    match command {
        Command::Prepare if phase == 0 => Some(Proceed),
        Command::Prepare => from_to(1, 5, Repeat),
        Command::Reserve => from_to(1, 5, Proceed),
        Command::Configure if phase == 1 => Some(Proceed),
        Command::Configure => from_to(2, 5, Repeat),
        Command::Start { life: 0 } => None,
        Command::Start { life: asked } if asked == life => from_to(3, 6, Repeat),
        Command::Start { life: asked } => (asked > life && [2, 5].contains(&phase)).then_some(Proceed),
        Command::Kill { is_last: true } => from_to(3, 5, Proceed),
        Command::Kill { .. } => from_to(3, 4, Proceed),
        Command::Exec => from_to(3, 3, Proceed),
        Command::Stop if phase == 6 => Some(Repeat),
        Command::Stop => from_to(3, 5, Proceed),
        Command::Pause => from_to(3, 3, Proceed),
        Command::Resume => from_to(4, 4, Proceed),
        Command::Delete { force } => (force || !(3..6).contains(&phase)).then_some(Proceed),
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
        Command::Pause => {
            model.phase = 4;
            task.apply(Event::Paused)
        }
        Command::Resume => {
            model.phase = 3;
            task.apply(Event::Resumed)
        }
        // There is nobody to kill or to wait for.
        Command::Stop | Command::Kill { .. } if model.phase == 5 => die(task, model, false),
        _ => task,
    }
}

fn die(task: Task<u32>, model: &mut Model, again: bool) -> Task<u32> {
    // Where no life had begun, none is over.
    let life = if model.phase >= 3 { model.life } else { 0 };
    let exit = Exit { life, ..Exit::default() };
    if again {
        if (3..6).contains(&model.phase) {
            model.phase = 5;
        }
        return task.apply(Event::Waits { exit });
    }
    if (1..6).contains(&model.phase) {
        *model = Model { phase: 6, life };
    }
    task.apply(Event::Ended { exit })
}

proptest! {
    #[test]
    fn every_walk_agrees_with_the_model(steps in steps(), last_life in 0_u64..3) {
        let mut task: Task<u32> = Task::Empty;
        let mut model = Model { phase: 0, life: 0 };
        for step in steps {
            match step {
                Step::Die { again } => task = die(task, &mut model, again),
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
            prop_assert_eq!(task.living().is_some(), (1..5).contains(&model.phase));
            prop_assert_eq!(task.life(), model.life);
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
        task = die(task, &mut model, true);
        prop_assert_eq!(admit(&task, Command::Start { life }), Ok(Admit::Repeat));
        prop_assert_eq!(admit(&task, Command::Start { life: life + 1 }), Ok(Admit::Proceed));
        task = die(task, &mut model, false);
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
    let waits: Task<u32> = Task::Prepared { init: 1 }.apply(Event::Waits { exit: Exit::default() });
    assert!(matches!(waits, Task::Prepared { init: 1 }));
    assert!(matches!(waits.apply(Event::Paused).apply(Event::Resumed), Task::Prepared { init: 1 }));
}
