//! The command `messenger-bridge`; see the library.

use std::process::ExitCode;

use clap::Parser;
use messenger_bridge::app::{
    check::check,
    cli::{Cli, Handlers, dispatch},
    hardening::harden,
    run::run,
    store::store,
};

fn main() -> ExitCode {
    harden();
    let handlers = Handlers {
        run: |config, registration| run(&config, &registration),
        check: |files: &_| check(files),
        store: |config, action| store(&config, &action),
    };
    dispatch(Cli::parse(), handlers).into()
}
