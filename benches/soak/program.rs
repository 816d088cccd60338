//! The program under test in processes of its own: `veilcast` by the clock of the run.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use veilcast_benches::Outcome;

use crate::clock::LeapingClock;
use crate::heap;

/// The first argument of a process that is `veilcast`; the second is the file of the clock.
const ROLE: &str = "--as-veilcast";
/// How long a process may take to be ready, to end, or to do what it was started for.
const PATIENCE: Duration = Duration::from_secs(120);
/// What locks the data folder.
pub(crate) const PASSPHRASE: &str = "soak-passphrase-9f1c2b";

/// The unit of the Debian package: the daemon of a run has its environment, which is about the allocator.
const UNIT: &str = include_str!("../../packaging/debian/veilcast.service");

fn environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    UNIT.lines().filter_map(|line| line.strip_prefix("Environment=")?.split_once('='))
}

/// Whether this process was started as `veilcast`, and what it comes to.
pub(crate) fn as_veilcast() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let [role, clock, rest @ ..] = &arguments[..] else { return None };
    if role != ROLE {
        return None;
    }
    let told = std::env::var_os(heap::TOLD_IN).map_or(Ok(()), |path| heap::tell(Path::new(&path)));
    Some(match told.and_then(|()| LeapingClock::follow(Path::new(clock))) {
        Ok(clock) => veilcast_node::program(
            Arc::new(clock),
            [OsString::from("veilcast")].into_iter().chain(rest.iter().cloned()),
        ),
        Err(error) => {
            eprintln!("no clock, or nowhere to tell of the heap: {error}");
            ExitCode::FAILURE
        }
    })
}

/// Where a run keeps everything.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
}

impl Place {
    pub(crate) fn clock(&self) -> PathBuf {
        self.folder.join("clock")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn log(&self, life: usize) -> PathBuf {
        self.folder.join(format!("daemon-{life}.log"))
    }

    /// What this life has allocated.
    pub(crate) fn heap(&self, life: usize) -> PathBuf {
        self.folder.join(format!("daemon-{life}.heap"))
    }

    /// A command of `veilcast` on a data folder.
    fn command(&self, data: &Path, arguments: &[&str]) -> Outcome<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("VEILCAST_")) {
            command.env_remove(name);
        }
        command.env("VEILCAST_DATA_DIR", data).env("VEILCAST_PASSPHRASE", PASSPHRASE);
        command.env("VEILCAST_BACKUP_PASSPHRASE", PASSPHRASE).envs(environment());
        command.arg(ROLE).arg(self.clock()).args(arguments);
        Ok(command)
    }

    /// Runs a command to its end, which must be good, and returns what it printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome<String> {
        self.run_on(&self.data(), arguments)
    }

    /// The same on another data folder.
    pub(crate) fn run_on(&self, data: &Path, arguments: &[&str]) -> Outcome<String> {
        let output = self.command(data, arguments)?.stdin(Stdio::null()).output()?;
        let (stdout, stderr) =
            (String::from_utf8(output.stdout)?, String::from_utf8_lossy(&output.stderr).into_owned());
        if !output.status.success() {
            return Err(format!("veilcast {} ended with {}: {stderr}", arguments.join(" "), output.status).into());
        }
        Ok(stdout.trim_end().into())
    }

    /// What `veilcast audit verify` says of a data folder that nobody uses.
    pub(crate) fn verify(&self, data: &Path) -> Outcome<Value> {
        Ok(serde_json::from_str(&self.run_on(data, &["audit", "verify", "--json"])?)?)
    }
}

/// `veilcast run`, once.
#[derive(Debug)]
pub(crate) struct Daemon {
    process: Child,
    /// Of its gateway, `IP:PORT`.
    pub(crate) gateway: String,
    /// Of its MQTT door, `IP:PORT`.
    pub(crate) mqtt: String,
    /// Where peers reach it.
    pub(crate) address: String,
}

impl Daemon {
    /// Starts it, listening for peers on `listen`, and waits until it is ready.
    pub(crate) fn start(place: &Place, life: usize, listen: &str) -> Outcome<Self> {
        let (log, said) = (place.log(life), place.folder.join(format!("daemon-{life}.out")));
        let doors = ["--gateway", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"];
        let mut command = place.command(&place.data(), &[&["run", "--listen", listen][..], &doors].concat())?;
        command.env("VEILCAST_LOG", "info,veilcast=debug").env(heap::TOLD_IN, place.heap(life)).stdin(Stdio::null());
        command.stdout(File::create(&said)?).stderr(File::create(&log)?);
        let mut process = command.spawn()?;
        let started = Instant::now();
        let (gateway, mqtt) = loop {
            if let Some(doors) = ready(&fs::read_to_string(&log)?) {
                break doors;
            }
            if let Some(status) = process.try_wait()? {
                return Err(format!("the daemon ended with {status}: {}", fs::read_to_string(&log)?).into());
            }
            if started.elapsed() > PATIENCE {
                let _ = process.kill();
                return Err("the daemon was not ready in time".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let addresses = fs::read_to_string(&said)?;
        let address = addresses.lines().find(|line| line.contains("/p2p/")).ok_or("the daemon told no address")?;
        Ok(Self { process, gateway, mqtt, address: address.into() })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// As a service manager does; it must end well.
    pub(crate) fn terminate(&mut self) -> Outcome<()> {
        let told = Command::new("kill").args(["-TERM", &self.id().to_string()]).status()?;
        if !told.success() {
            return Err("the daemon was gone before its end".into());
        }
        let started = Instant::now();
        loop {
            match self.process.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("told to stop, the daemon ended with {status}").into()),
                None if started.elapsed() > PATIENCE => return Err("the daemon did not stop".into()),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// As a power failure does.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The addresses of gateway and MQTT door, once the log says that it is ready.
fn ready(log: &str) -> Option<(String, String)> {
    let line = log.lines().find(|line| line.starts_with("ready as"))?;
    let (_, gateway) = line.split_once("the gateway is http://")?;
    let (mqtt, _) = line.split_once("MQTT is mqtt://")?.1.split_once(';')?;
    Some((gateway.trim().to_owned(), mqtt.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_the_package_says_what_the_allocator_may_keep() {
        let names: Vec<&str> = environment().map(|(name, _)| name).collect();
        assert_eq!(names, ["MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_"]);
    }

    #[test]
    fn both_doors_are_found_in_the_line_that_says_ready() {
        let doors = "MQTT is mqtt://127.0.0.1:1883; the gateway is http://127.0.0.1:7171";
        let log = format!("something\nready as 0xabc since now; {doors}\nmore\n");
        assert_eq!(ready(&log), Some(("127.0.0.1:7171".into(), "127.0.0.1:1883".into())));
        assert_eq!(ready("ready as 0xabc since"), None);
    }
}
