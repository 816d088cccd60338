//! What a caller's script sees: four exit codes and no more.

use std::process::ExitCode;

/// How a run of `veilcast` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done as asked.
    Done,
    /// Something failed; the message says what and what to do next.
    Failed,
    /// The command line makes no sense; nothing was done.
    Usage,
    /// The network said no: the publisher refused the keys.
    Refused,
}

impl Exit {
    /// The number the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
        }
    }

    /// The other way round; what is none is a failure.
    pub(crate) const fn of_code(code: u8) -> Self {
        match code {
            0 => Self::Done,
            2 => Self::Usage,
            3 => Self::Refused,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
