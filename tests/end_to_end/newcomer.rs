//! README's ten steps, taken from README itself, as `script/newcomer` does them, with the program that is built already.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::ground;

fn newcomer(binary: &Path) -> Output {
    let mut script = Command::new(ground::repository("script/newcomer"));
    script.arg("--binary").arg(binary).arg("--folder").arg(ground::folder("newcomer").join("run"));
    script.stdin(Stdio::null()).output().expect("start the newcomer's run")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_newcomer_comes_to_a_first_chat_by_the_ten_steps_of_the_readme() {
    let run = newcomer(Path::new(env!("CARGO_BIN_EXE_messenger-bridge")));
    let said = said(&run);
    assert!(run.status.success(), "{said}");
    println!("{said}");
    let table = said.split("step   seconds   what").nth(1).expect("a table of the steps");
    for step in ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "+"] {
        let row = table.lines().find(|line| line.split_whitespace().next() == Some(step));
        let seconds = row.and_then(|row| row.split_whitespace().nth(1)).and_then(|time| time.parse::<f64>().ok());
        assert!(seconds.is_some(), "step {step} has no time: {said}");
    }
}

#[test]
fn the_newcomers_run_fails_at_the_step_that_fails() {
    let run = newcomer(Path::new("/bin/false"));
    let said = said(&run);
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED: step 2 failed: `messenger-bridge generate-config` ended with code 1"), "{said}");
}
