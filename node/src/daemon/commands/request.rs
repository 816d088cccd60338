//! A request for a command: its command line, understood, and what goes along.

use std::fs::File;
use std::io;

use axum::body::Body;
use bytes::{Buf, BytesMut};
use clap::Parser;
use futures::StreamExt;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::task::spawn_blocking;
use zeroize::Zeroize;

use super::NoRequest;
use crate::args::Cli;
use crate::data_dir::DataDir;
use crate::through::asked::{Asked, MOST_HEAD, MOST_INPUT, version};

pub(super) struct Request {
    pub(super) cli: Cli,
    pub(super) asked: Asked,
    /// The lines or the file that the command reads; a file without a name, which goes with it.
    pub(super) input: File,
}

impl Request {
    /// Reads it to its end. What follows the head may be long, and waits in the data folder.
    pub(super) async fn read(body: Body, dir: &DataDir) -> Result<Self, NoRequest> {
        let mut pieces = body.into_data_stream();
        let mut came = BytesMut::new();
        let asked = loop {
            if let Some(asked) = head(&mut came)? {
                break asked;
            }
            match pieces.next().await {
                Some(Ok(piece)) => came.extend_from_slice(&piece),
                _ => return Err(NoRequest::Broken),
            }
        };
        if asked.version != version() {
            return Err(NoRequest::Version);
        }
        let cli = Cli::try_parse_from(&asked.line).map_err(|_| NoRequest::Malformed)?;
        let folder = dir.path().to_owned();
        let made = spawn_blocking(move || tempfile::tempfile_in(folder)).await.map_err(io::Error::other);
        let mut input = tokio::fs::File::from_std(made.flatten().map_err(NoRequest::Disk)?);
        let mut length = 0;
        let mut piece = came.freeze();
        loop {
            length += piece.len() as u64;
            if length > MOST_INPUT {
                return Err(NoRequest::TooLarge);
            }
            input.write_all(&piece).await.map_err(NoRequest::Disk)?;
            piece = match pieces.next().await {
                Some(Ok(piece)) => piece,
                Some(Err(_)) => return Err(NoRequest::Broken),
                None => break,
            };
        }
        input.flush().await.map_err(NoRequest::Disk)?;
        input.rewind().await.map_err(NoRequest::Disk)?;
        Ok(Self { cli, asked, input: input.into_std().await })
    }

    /// The command, without anything that stands beside it.
    pub(super) fn name(&self) -> &'static str {
        self.cli.command.name()
    }
}

/// Once all of it came.
fn head(came: &mut BytesMut) -> Result<Option<Asked>, NoRequest> {
    let Some((length, _)) = came.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > MOST_HEAD {
        return Err(NoRequest::TooLarge);
    }
    if came.len() < 4 + length {
        return Ok(None);
    }
    came.advance(4);
    let mut json = came.split_to(length);
    let asked = serde_json::from_slice(&json).map_err(|_| NoRequest::Malformed);
    json.zeroize();
    asked.map(Some)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn folder() -> (tempfile::TempDir, DataDir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::find(Some(folder.path())).unwrap();
        (folder, dir)
    }

    fn line(words: &str) -> Asked {
        Asked::of(words.split(' ').map(str::to_owned).collect())
    }

    async fn read(bytes: Vec<u8>) -> Result<Request, NoRequest> {
        let (_folder, dir) = folder();
        Request::read(Body::from(bytes), &dir).await
    }

    #[tokio::test]
    async fn a_request_is_read_with_its_secrets_and_what_follows_it() {
        let mut asked = line("veilcast key import a.keys");
        asked.passphrase = Some("of the file".into());
        let mut request = read([&asked.encode()[..], b"what follows"].concat()).await.unwrap();
        let mut input = String::new();
        request.input.read_to_string(&mut input).unwrap();
        assert_eq!((request.asked.passphrase.as_deref(), input.as_str()), (Some("of the file"), "what follows"));
        assert_eq!(request.name(), "key");
    }

    #[tokio::test]
    async fn what_is_cut_off_too_long_of_another_version_or_no_command_line_is_refused() {
        let whole = line("veilcast access show").encode();
        assert!(matches!(read(whole[..whole.len() - 1].to_vec()).await, Err(NoRequest::Broken)));
        assert!(matches!(read(whole.to_vec()).await, Err(NoRequest::Malformed)), "it names no stream");
        assert!(matches!(read(vec![0xff; 8]).await, Err(NoRequest::TooLarge)));
        assert!(matches!(read(b"\0\0\0\x02{}".to_vec()).await, Err(NoRequest::Malformed)));
        let mut other = line("veilcast audit head");
        other.version = "0.0.0".into();
        assert!(matches!(read(other.encode().to_vec()).await, Err(NoRequest::Version)));
    }
}
