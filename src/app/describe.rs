//! What the command line says of itself, for shells and for `man`.

use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::cli::Cli;

/// Writes the completions of a shell.
pub fn completions(shell: Shell, to: &mut impl Write) {
    clap_complete::generate(shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), to);
}

/// Writes the man page of the program or, with a folder, one for the program and one for each of its commands into that.
pub fn man(folder: Option<&Path>, to: &mut impl Write) -> io::Result<()> {
    match folder {
        Some(folder) => clap_mangen::generate_to(Cli::command(), folder),
        None => clap_mangen::Man::new(Cli::command()).render(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_has_completions() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh] {
            let mut text = Vec::new();
            completions(shell, &mut text);
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("generate-registration") && text.contains("recover"), "{shell}: {text}");
        }
    }

    #[test]
    fn the_man_page_has_the_exit_codes_and_each_command_its_own() {
        let mut text = Vec::new();
        man(None, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(".SH NAME") && text.contains("28") && text.contains("generate\\-config"), "{text}");
        let folder = tempfile::TempDir::new().unwrap();
        man(Some(folder.path()), &mut Vec::new()).unwrap();
        for page in ["messenger-bridge.1", "messenger-bridge-run.1", "messenger-bridge-store-verify.1"] {
            assert!(folder.path().join(page).exists(), "{page}");
        }
    }
}
