//! Lines in and lines out, on threads of their own: a pipe that stalls must not hold up the network, nor Ctrl-C.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};

use tokio::sync::{mpsc, oneshot};

use crate::failure::Failure;
use crate::output::failed_write;

/// Lines read ahead.
const AHEAD: usize = 64;
/// Lines waiting to be written; whoever writes waits beyond.
const BEHIND: usize = 1024;
/// The same for somebody elsewhere, who may pause for days in the memory of a process that others use.
const BEHIND_ELSEWHERE: usize = 16;

/// Reads lines without their line feed, as bytes: what is not UTF-8 passes too. A line over the limit ends the reading.
pub(crate) fn read(input: impl Read + Send + 'static, limit: usize) -> mpsc::Receiver<Result<Vec<u8>, LineError>> {
    let (lines, taken) = mpsc::channel(AHEAD);
    std::thread::spawn(move || {
        let mut input = BufReader::with_capacity(64 * 1024, input);
        for number in 1.. {
            let line = match read_line(&mut input, limit) {
                Ok(Some(line)) => Ok(line),
                Ok(None) => return,
                Err(Fault::TooLong) => Err(LineError::TooLong { line: number, limit }),
                Err(Fault::Io(source)) => Err(LineError::Read { line: number, source }),
            };
            let last = line.is_err();
            if lines.blocking_send(line).is_err() || last {
                return;
            }
        }
    });
    taken
}

enum Fault {
    TooLong,
    Io(io::Error),
}

fn read_line(input: &mut impl BufRead, limit: usize) -> Result<Option<Vec<u8>>, Fault> {
    let mut line = Vec::new();
    // One byte more than may be, so that a line that is too long shows, and its rest is never held in memory.
    let room = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let got = input.take(room).read_until(b'\n', &mut line).map_err(Fault::Io)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > limit {
        return Err(Fault::TooLong);
    }
    Ok((got > 0).then_some(line))
}

/// Why there are no more lines.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LineError {
    #[error(
        "line {line} is longer than {limit} bytes, the limit of a message; split it (the lines before it were sent)"
    )]
    TooLong { line: u64, limit: usize },
    #[error("line {line} cannot be read: {source}; see to where the input comes from")]
    Read { line: u64, source: io::Error },
}

/// Writes lines to stdout, or to somebody elsewhere, in order.
pub(crate) struct LineWriter {
    lines: mpsc::Sender<Vec<u8>>,
    outcome: oneshot::Receiver<io::Result<()>>,
}

impl LineWriter {
    /// Starts the writing thread.
    pub(crate) fn start() -> Self {
        Self::over(io::stdout(), BEHIND)
    }

    /// The same, for somebody elsewhere.
    pub(crate) fn elsewhere(out: impl Write + Send + 'static) -> Self {
        Self::over(out, BEHIND_ELSEWHERE)
    }

    fn over(out: impl Write + Send + 'static, behind: usize) -> Self {
        let (lines, mut taken) = mpsc::channel::<Vec<u8>>(behind);
        let (tell, outcome) = oneshot::channel();
        std::thread::spawn(move || {
            let _ = tell.send(write_all(&mut taken, out));
        });
        Self { lines, outcome }
    }

    /// Queues one line; the line feed is added here.
    pub(crate) async fn write(&mut self, mut line: Vec<u8>) -> Result<(), Failure> {
        line.push(b'\n');
        match self.lines.send(line).await {
            Ok(()) => Ok(()),
            // The thread ends early only when it could not write.
            Err(_) => Err(self.failed().await),
        }
    }

    /// Returns once nothing more can be written, with the reason: whoever read our output may have gone.
    pub(crate) async fn failed(&mut self) -> Failure {
        self.lines.closed().await;
        self.outcome().await.err().unwrap_or(Failure::OutputClosed)
    }

    /// Returns when everything is written.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        let Self { lines, outcome } = self;
        drop(lines);
        outcome.await.unwrap_or(Ok(())).map_err(failed_write)
    }

    async fn outcome(&mut self) -> Result<(), Failure> {
        let outcome = (&mut self.outcome).await.unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()));
        outcome.map_err(failed_write)
    }
}

/// Flushes whenever nothing more is waiting, so that a slow stream is seen at once and a fast one costs few calls.
fn write_all(lines: &mut mpsc::Receiver<Vec<u8>>, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    while let Some(line) = lines.blocking_recv() {
        out.write_all(&line)?;
        if lines.is_empty() {
            out.flush()?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(input: &'static [u8], limit: usize) -> Vec<Result<Vec<u8>, LineError>> {
        let mut taken = read(input, limit);
        std::iter::from_fn(|| taken.blocking_recv()).collect()
    }

    fn whole(input: &'static [u8]) -> Vec<Vec<u8>> {
        lines_of(input, 100).into_iter().map(Result::unwrap).collect()
    }

    #[test]
    fn lines_pass_unchanged_also_empty_ones_other_encodings_and_a_last_one_without_line_feed() {
        assert_eq!(whole(b"a\n\nb\r\n\xff\xfe\nlast"), [&b"a"[..], b"", b"b\r", b"\xff\xfe", b"last"]);
        assert_eq!(whole(b""), [&b""[..]; 0]);
    }

    #[test]
    fn a_line_of_the_limit_passes_and_one_byte_more_is_an_error_naming_line_and_limit() {
        let found = lines_of(b"12345\n123456\nnever read", 5);
        assert_eq!(found[0].as_ref().unwrap(), b"12345");
        assert!(matches!(found[1], Err(LineError::TooLong { line: 2, limit: 5 })));
        assert_eq!(found.len(), 2);
    }
}
