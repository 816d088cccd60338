//! `veilcast access`: whom a publisher serves, of those whom the registry allows.

use serde_json::json;
use veilcast::StreamId;
use veilcast::permission::{AccessList, AccessRules, Rule};

use super::now;
use crate::args::{AccessCommand, ClearArgs, ListedArgs, Shared};
use crate::exit::Exit;
use crate::failure::{Failure, STOP_IT_FIRST};
use crate::output::Output;
use crate::session::Session;

/// So many streams are named to choose from.
const SHOWN: usize = 5;

pub(crate) fn run(command: &AccessCommand, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    on(command, &Session::open(shared).map_err(|failure| failure.where_in_use(STOP_IT_FIRST))?, output)
}

/// On an open data folder.
pub(crate) fn on(command: &AccessCommand, session: &Session, output: Output) -> Result<Exit, Failure> {
    let lists = session.access();
    match command {
        AccessCommand::Allow(args) => set(args, Rule::Allow, session, output)?,
        AccessCommand::Deny(args) => set(args, Rule::Deny, session, output)?,
        AccessCommand::Clear(args) => clear(args, &lists, output)?,
        AccessCommand::Show(args) => show(&args.stream, &lists, output)?,
    }
    Ok(Exit::Done)
}

fn set(args: &ListedArgs, rule: Rule, session: &Session, output: Output) -> Result<(), Failure> {
    if let Some(doubt) = doubt(&args.stream, session)? {
        output.note("unknown_stream", doubt);
    }
    session.access().set(&args.stream, args.user, rule, now())?;
    let said = match rule {
        Rule::Allow => "is served where the registry allows it, and of others only who is allowed by name",
        Rule::Deny => "is given no more keys",
    };
    let json = json!({ "stream": args.stream.as_str(), "user": args.user.to_string(), "rule": word(rule) });
    output.result(format!("{} {said} of {}", args.user, args.stream), &json)
}

/// A list can be made for any stream, for a registry may know it that is elsewhere. But one that has others of its owner here beside it
/// is likely to be mistyped.
fn doubt(stream: &StreamId, session: &Session) -> Result<Option<String>, Failure> {
    let mut known: Vec<StreamId> = session.registry().streams()?.into_iter().map(|(stream, _)| stream).collect();
    known.extend(session.signed_grants().streams()?);
    known.retain(|known| known.owner() == stream.owner() && stream.owner().is_some());
    if known.is_empty() || known.contains(stream) {
        return Ok(None);
    }
    known.sort();
    known.dedup();
    let shown: Vec<&str> = known.iter().take(SHOWN).map(StreamId::as_str).collect();
    let more = if known.len() > SHOWN { ", ..." } else { "" };
    Ok(Some(format!("nothing is known here of {stream}; known of its owner: {}{more}", shown.join(", "))))
}

fn clear(args: &ClearArgs, lists: &AccessList, output: Output) -> Result<(), Failure> {
    let (user, stream) = (args.user, &args.stream);
    match user {
        Some(user) => lists.clear_user(stream, user, now())?,
        None => lists.clear(stream, now())?,
    }
    let rules = lists.rules(stream)?;
    let said = match user {
        Some(user) if rules.only_allowed => format!("{user} is on no list of {stream}; only who is allowed is served"),
        Some(user) => format!("{user} is on no list of {stream}"),
        None => format!("there are no lists of {stream} any more; the registry alone decides"),
    };
    output.result(said, &in_json(stream, &rules))
}

fn show(stream: &StreamId, lists: &AccessList, output: Output) -> Result<(), Failure> {
    let rules = lists.rules(stream)?;
    let mut lines = vec![match (rules.only_allowed, rules.users.is_empty()) {
        (true, _) => format!("{stream}  only who is allowed by name is served, if the registry allows it, too"),
        (false, true) => format!("{stream}  no lists; the registry alone decides"),
        (false, false) => format!("{stream}  whom the registry allows is served, unless denied"),
    }];
    lines.extend(rules.users.iter().map(|(user, rule)| format!("  {user}  {}", word(*rule))));
    output.result(lines.join("\n"), &in_json(stream, &rules))
}

fn in_json(stream: &StreamId, rules: &AccessRules) -> serde_json::Value {
    let user = |(user, rule): &(veilcast::UserId, Rule)| json!({ "user": user.to_string(), "rule": word(*rule) });
    let users: Vec<_> = rules.users.iter().map(user).collect();
    json!({ "stream": stream.as_str(), "only_allowed": rules.only_allowed, "users": users })
}

const fn word(rule: Rule) -> &'static str {
    match rule {
        Rule::Allow => "allow",
        Rule::Deny => "deny",
    }
}
