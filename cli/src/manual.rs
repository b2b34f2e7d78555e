//! `completions` and `man`: what shells and `man` are told of the command line, made from the same tree as the help.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::Status;

/// Flags of `completions`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  blockyard completions bash > /etc/bash_completion.d/blockyard
  blockyard completions zsh > \"${fpath[1]}/_blockyard\"
  blockyard completions fish > ~/.config/fish/completions/blockyard.fish")]
pub(crate) struct CompletionsOptions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Flags of `man`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  blockyard man /usr/local/share/man/man1")]
pub(crate) struct ManOptions {
    /// Folder of the pages; one for each verb
    dir: PathBuf,
}

/// Runs `completions`.
pub(crate) fn completions(options: &CompletionsOptions) -> Status {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Cli::command(), "blockyard", &mut script);
    match std::io::stdout().lock().write_all(&script) {
        Ok(()) => Status::OK,
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Status::OK,
        Err(error) => failed("write to standard output", Path::new(""), &error),
    }
}

/// Runs `man`.
pub(crate) fn man(options: &ManOptions) -> Status {
    if let Err(error) = base::local::create_dir(&options.dir, 0o755) {
        return failed("make the folder", &options.dir, &error);
    }
    match clap_mangen::generate_to(Cli::command(), &options.dir) {
        Ok(()) => Status::OK,
        Err(error) => failed("write the pages", &options.dir, &error),
    }
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Status {
    eprintln!("error: cannot {what}: {error}: {}", path.display());
    Status::FAILED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_is_told_every_verb() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "blockyard", &mut script);
            let script = String::from_utf8(script).unwrap();
            for verb in Cli::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{} is not in the script for {shell}", verb.get_name());
            }
        }
    }

    #[test]
    fn every_verb_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(man(&ManOptions { dir: dir.path().join("man1") }), Status::OK);
        let pages = base::local::read_dir(&dir.path().join("man1")).unwrap();
        let names: Vec<&str> = pages.iter().filter_map(|(name, _)| name.to_str()).collect();
        for verb in Cli::command().get_subcommands() {
            let page = format!("blockyard-{}.1", verb.get_name());
            assert!(names.contains(&page.as_str()), "{page} is not in {names:?}");
        }
        assert!(names.contains(&"blockyard.1") && names.contains(&"blockyard-node-ls.1"), "{names:?}");
    }
}
