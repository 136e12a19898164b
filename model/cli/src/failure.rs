//! How the program ends when it cannot go on.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why the program ends early.
pub(crate) enum Failure {
    /// Something is wrong that the user can be told.
    Message(String),
    /// Nobody reads the output any more: no reason to complain.
    BrokenPipe,
    /// Help or version was asked for.
    Help(clap::Error),
}

impl Failure {
    /// A mistake in line `line` of the input, counted from 1.
    pub(crate) fn in_line(line: usize, cause: impl Display) -> Self {
        Failure::Message(format!("line {line}: {cause}"))
    }

    /// Says so on one line of stderr.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Failure::Message(message) => {
                // Names and paths may hold anything; a line stays a line.
                let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
                let line = message.chars().map(shown).collect::<String>();
                // Nothing is left to be done if this fails, nor below.
                let _ = writeln!(io::stderr(), "gristmill: {line}");
                ExitCode::from(2)
            }
            Failure::BrokenPipe => ExitCode::SUCCESS,
            Failure::Help(help) => {
                let _ = help.print();
                ExitCode::SUCCESS
            }
        }
    }
}

impl From<gristmill::Error> for Failure {
    fn from(error: gristmill::Error) -> Self {
        Failure::Message(error.to_string())
    }
}

impl From<gristmill_model::Error> for Failure {
    fn from(error: gristmill_model::Error) -> Self {
        Failure::Message(error.to_string())
    }
}

impl From<rayon::ThreadPoolBuildError> for Failure {
    fn from(error: rayon::ThreadPoolBuildError) -> Self {
        Failure::Message(format!("threads: {error}"))
    }
}

/// A failure to write: what is read says by itself what it is.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::Message(format!("output: {error}")),
        }
    }
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        if !error.use_stderr() {
            return Failure::Help(error);
        }
        // The first paragraph says what is wrong; usage and hints follow.
        let text = error.to_string();
        let paragraph = text.split("\n\n").next().unwrap_or_default();
        let words: Vec<&str> = paragraph.trim_start_matches("error: ").split_whitespace().collect();
        Failure::Message(words.join(" "))
    }
}
