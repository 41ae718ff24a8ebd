//! What the process lets nobody see: its memory in a core dump, and what a fault was about.
//!
//! Passwords, tokens and messages are in memory while they are used. A dump of it would outlive them on a disk, and the words of a
//! panic can hold the text that was worked on.

use std::{any::Any, fs, io::Write as _, panic};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Does it, first of all in `main`. What the system refuses is told and is no reason not to run.
pub fn harden() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tell(&format!("core dumps cannot be limited: {error}"));
    }
    // A handler that dumps are piped to may not care for the limit. Nor may others of this user look into the process then. Who
    // traces it from its start sees everything anyway.
    if !is_traced()
        && let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable)
    {
        tell(&format!("core dumps cannot be turned off: {error}"));
    }
    panic::set_hook(Box::new(|fault| {
        let place = fault.location().map(ToString::to_string).unwrap_or_default();
        tell(&format!("a fault of the program at {place}: {}", words(fault.payload())));
    }));
}

/// What a panic says, where that was written in the source. Anything made at run time may hold what people said.
fn words(payload: &dyn Any) -> &'static str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or("what it says is not shown, for it may hold people's words")
}

fn is_traced() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
}

fn tell(text: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!("{text}");
    } else {
        // Nothing is left to be done if stderr is closed.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_shows_no_text_that_was_worked_on() {
        let said = "hunter2 ü".to_owned();
        let at_run_time: [fn(&str); 3] = [
            |said| panic!("{said}"),
            |said| drop(said[..9].to_owned()),
            |said| assert!(said.is_empty(), "{said} was left"),
        ];
        for fault in at_run_time {
            let said = said.clone();
            let payload = panic::catch_unwind(|| fault(&said)).unwrap_err();
            assert!(!words(payload.as_ref()).contains("hunter2"));
        }
        let payload = panic::catch_unwind(|| panic!("the lane is empty")).unwrap_err();
        assert_eq!(words(payload.as_ref()), "the lane is empty");
    }
}
