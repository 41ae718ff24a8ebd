//! The command `messenger-bridge`; see the library.

use std::process::ExitCode;

use clap::Parser;
use messenger_bridge::app::{
    check::check,
    cli::{Cli, Handlers, dispatch},
    hardening::harden,
    recover::recover,
    run::run,
    store::store,
};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    harden();
    let handlers = Handlers {
        run: |config, registration, file: &_| run(&config, &registration, file),
        check: |arguments: &_| check(arguments),
        recover: |config, registration| recover(&config, &registration),
        store: |config, action| store(&config, &action),
    };
    dispatch(Cli::parse(), handlers).into()
}
