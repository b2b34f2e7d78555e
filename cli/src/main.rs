//! `blockyard`: the one binary. File verbs, server verbs, and a whole cluster with `blockyard dev`.
//!
//! ```text
//!   args      what can be typed             verbs     put get cat ls …, over the client library
//!   server    namenode | datanode           dev       a cluster on this machine, for development
//!   config    settings, explained           manual    completions and man pages
//!   bench     measurements                  exit      what exit statuses mean
//!   soak      load, faults, every byte      page      a look at a role's operations page
//!   mount     a directory of this machine
//! ```

mod args;
mod bench;
mod config;
mod dev;
mod exit;
#[cfg(test)]
mod golden;
mod manual;
mod mount;
mod page;
mod server;
mod soak;
mod verbs;

use std::process::ExitCode;

use args::Command;

fn main() -> ExitCode {
    let cli = match args::parse() {
        Ok(cli) => cli,
        Err(status) => return status.into(),
    };
    if matches!(cli.command, Command::Dev(_) | Command::Namenode(_) | Command::Datanode(_) | Command::Soak(_)) {
        base::limits::raise_open_files();
    }
    let status = match cli.command {
        Command::Files(verb) => verbs::run(verb, &cli.global),
        Command::Dev(options) => dev::run(&options, &cli.global),
        Command::Namenode(options) => server::namenode(&options, &cli.global),
        Command::Datanode(options) => server::datanode(&options, &cli.global),
        Command::Config(verb) => config::run(&verb, &cli.global),
        Command::Completions(options) => manual::completions(&options),
        Command::Man(options) => manual::man(&options),
        Command::Bench(verb) => bench::run(&verb, &cli.global),
        Command::Mount(options) => mount::mount(&options, &cli.global),
        Command::Umount(options) => mount::umount(&options, &cli.global),
        Command::Soak(options) => soak::run(&options, &cli.global),
        Command::Help(topic) => args::help(&topic),
    };
    status.into()
}
