//! `veilcast stream` with a contract as the registry: what changes permissions is a transaction that costs gas.
//!
//! The data folder's store is opened only for what is kept there, so that a publisher may go on running meanwhile.

use serde_json::{Value, json};
use veilcast::exchange::HistoryPolicy;
use veilcast::permission::StreamInfo;
use veilcast::permission::ethereum::{Action, Deployment, EthereumRegistry, Receipt};
use veilcast::{Identity, Period, Permission, StreamId, UserId};

use super::{in_words, settings};
use crate::args::{
    CreateArgs, GrantArgs, PeriodArgs, Registry, RevokeArgs, RhythmArgs, SetArgs, Shared, ShowArgs, SpendArgs,
    StreamCommand,
};
use crate::chain::{self, ChainFailure, Purse};
use crate::commands::now;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::{self, Session};
use crate::through;
use crate::times;

pub(super) async fn run(
    command: &StreamCommand,
    deployment: Deployment,
    shared: &Shared,
    output: Output<'_>,
    mut stop: Interrupt,
) -> Result<Exit, Failure> {
    let spend = match command {
        StreamCommand::Create(CreateArgs { spend, .. })
        | StreamCommand::Grant(GrantArgs { spend, .. })
        | StreamCommand::Revoke(RevokeArgs { spend, .. })
        | StreamCommand::Set(SetArgs { spend, .. }) => *spend,
        StreamCommand::Show(_) | StreamCommand::Subscribers(_) => SpendArgs { yes: false },
    };
    let registry = chain::open(deployment, &command.registry().chain)?;
    let office = Office { registry, identity: session::identity(shared)?, shared, yes: spend.yes, output };
    let work = async {
        match command {
            StreamCommand::Create(args) => office.create(args).await,
            StreamCommand::Grant(args) => office.grant(&args.period).await,
            StreamCommand::Revoke(args) => office.revoke(args).await,
            StreamCommand::Set(args) => office.set(args).await,
            StreamCommand::Show(args) => office.show(args).await,
            // The same for every registry, so it is run elsewhere.
            StreamCommand::Subscribers(_) => Ok(()),
        }
    };
    match stop.or(work).await {
        Some(outcome) => outcome.map(|()| Exit::Done),
        None => Ok(Exit::Failed),
    }
}

/// Who has the store that something is to be kept in.
enum Keeper {
    /// This process.
    Here(Session),
    /// A `veilcast run` on the data folder.
    Running,
}

impl Keeper {
    /// Keeps it, and says so.
    async fn keep(
        self,
        office: &Office<'_>,
        stream: &StreamId,
        rhythm: &RhythmArgs,
        history: Option<HistoryPolicy>,
        json: &mut Value,
    ) -> Result<Vec<String>, Failure> {
        match self {
            Self::Here(session) => Ok(settings::keep(&session, stream, rhythm, history)?.told(json)),
            Self::Running => {
                let told = through::keep(office.shared, stream, rhythm, history).await?;
                for name in ["key_policy", "history"] {
                    if let Some(found) = told.json.get(name) {
                        json[name] = found.clone();
                    }
                }
                Ok(told.said)
            }
        }
    }
}

/// A contract, and the identity that writes to it.
struct Office<'a> {
    registry: EthereumRegistry,
    identity: Identity,
    shared: &'a Shared,
    yes: bool,
    output: Output<'a>,
}

impl Office<'_> {
    /// Makes the stream, and sets it up. What an earlier run that broke off did is not done again.
    async fn create(&self, args: &CreateArgs) -> Result<(), Failure> {
        let stream = super::own(self.identity.user(), &args.path)?;
        let keeps = self.keeps(args.rhythm.is_given() || args.history.is_some()).await?;
        let known = self.registry.stream_info(&stream, now()).await.map_err(ChainFailure::from)?;
        match &known {
            None => {
                let path = stream.as_str().split_once('/').map_or("", |(_, path)| path).to_owned();
                let action = Action::CreateStream { path, partitions: args.partitions };
                self.spend(action).await?;
            }
            Some(info) if info.partitions != args.partitions => {
                return Err(ChainFailure::Exists { stream, partitions: info.partitions }.into());
            }
            Some(_) => self.output.note("exists", format!("the stream {stream} exists already")),
        }
        if known.is_some_and(|info| info.public) != args.public {
            self.spend(Action::SetPublic { stream: stream.clone(), public: args.public }).await?;
        }
        self.publishers(&stream, &args.publisher, &[]).await?;
        if let Some(keeper) = keeps {
            keeper.keep(self, &stream, &args.rhythm, args.history, &mut json!({})).await?;
        }
        let json = json!({ "id": stream.as_str(), "partitions": args.partitions, "public": args.public });
        self.output.result(&stream, &json)
    }

    async fn grant(&self, args: &PeriodArgs) -> Result<(), Failure> {
        let (stream, user, permission) = (args.stream.clone(), args.user, args.permission);
        let period = times::period(args.from, args.until, args.lasting, now());
        let receipt = self.spend(Action::Grant { stream, user, permission, period }).await?;
        let text = format!("{user} may {permission} on {} {}", args.stream, in_words(period));
        let mut json = self.written(&args.stream, user, permission, &receipt);
        json["until"] = period.end.map(|moment| moment.as_millis()).into();
        self.output.result(text, &json)
    }

    async fn revoke(&self, args: &RevokeArgs) -> Result<(), Failure> {
        let (stream, user) = (args.stream.clone(), args.user);
        let permission = args.permission.unwrap_or(Permission::Subscribe);
        let receipt = self.spend(Action::Revoke { stream, user, permission }).await?;
        let text = format!("{user} may no longer {permission} on {}", args.stream);
        self.output.result(text, &self.written(&args.stream, user, permission, &receipt))
    }

    async fn set(&self, args: &SetArgs) -> Result<(), Failure> {
        let keeps = self.keeps(args.rhythm.is_given() || args.history.is_some()).await?;
        self.known(&args.stream).await?;
        let (mut json, mut said) = (json!({ "id": args.stream.as_str() }), Vec::new());
        if args.public || args.private {
            self.spend(Action::SetPublic { stream: args.stream.clone(), public: args.public }).await?;
            json["public"] = args.public.into();
            said.push(settings::who_may_read(&args.stream, args.public));
        }
        self.publishers(&args.stream, &args.publisher, &args.no_publisher).await?;
        said.extend(args.publisher.iter().map(|user| format!("{user} may publish on {}", args.stream)));
        said.extend(args.no_publisher.iter().map(|user| format!("{user} may no longer publish on {}", args.stream)));
        if let Some(keeper) = keeps {
            said.extend(keeper.keep(self, &args.stream, &args.rhythm, args.history, &mut json).await?);
        }
        self.output.result(said.join("\n"), &json)
    }

    /// The stream, and what this identity may do on it.
    async fn show(&self, args: &ShowArgs) -> Result<(), Failure> {
        let stream = args.stream.as_ref().ok_or(ChainFailure::NoList)?;
        let info = self.known(stream).await?;
        let (user, now) = (self.identity.user(), now());
        let mut text = super::show::headline(stream, &info);
        let mut mine = json!({});
        for permission in [Permission::Publish, Permission::Subscribe] {
            let answer = self.registry.ask(stream, user, permission, now).await.map_err(ChainFailure::from)?;
            let words = match &answer {
                Ok(grant) => in_words(grant.period),
                Err(refusal) => refusal.to_string(),
            };
            text.push_str(&format!("\n  you may {permission}: {words}"));
            mine[permission.name()] = match answer {
                Ok(grant) => json!({ "state": "active", "until": grant.period.end.map(|end| end.as_millis()) }),
                Err(refusal) => json!({ "state": refusal.name() }),
            };
        }
        let json = json!({
            "id": stream.as_str(), "partitions": info.partitions, "public": info.public,
            "registry": self.registry.deployment().to_string(), "user": user.to_string(), "permissions": mine,
        });
        self.output.result(text, &json)
    }

    async fn publishers(&self, stream: &StreamId, added: &[UserId], removed: &[UserId]) -> Result<(), Failure> {
        let permission = Permission::Publish;
        for user in added.iter().copied() {
            self.spend(Action::Grant { stream: stream.clone(), user, permission, period: Period::ALWAYS }).await?;
        }
        for user in removed.iter().copied() {
            self.spend(Action::Revoke { stream: stream.clone(), user, permission }).await?;
        }
        Ok(())
    }

    async fn known(&self, stream: &StreamId) -> Result<StreamInfo, Failure> {
        let info = self.registry.stream_info(stream, now()).await.map_err(ChainFailure::from)?;
        Ok(info.ok_or_else(|| ChainFailure::NoStream { stream: stream.clone() })?)
    }

    async fn spend(&self, action: Action) -> Result<Receipt, Failure> {
        let purse = Purse { registry: &self.registry, identity: &self.identity, yes: self.yes, output: self.output };
        Ok(purse.spend(action).await?)
    }

    /// Found before anything is sent: what is kept in the store would be missing after a transaction that was paid for.
    async fn keeps(&self, needed: bool) -> Result<Option<Keeper>, Failure> {
        if !needed {
            return Ok(None);
        }
        let registry = Registry::Chain(self.registry.deployment());
        Ok(Some(match through::somebody_runs_by(self.shared, registry).await? {
            true => Keeper::Running,
            false => Keeper::Here(Session::open(self.shared)?),
        }))
    }

    fn written(&self, stream: &StreamId, user: UserId, permission: Permission, receipt: &Receipt) -> Value {
        json!({
            "stream": stream.as_str(),
            "user": user.to_string(),
            "permission": permission.name(),
            "registry": self.registry.deployment().to_string(),
            "transaction": format!("0x{}", hex::encode(receipt.hash)),
            "block": receipt.block,
            "gas_used": receipt.gas_used,
            "cost_wei": receipt.cost.to_string(),
        })
    }
}
