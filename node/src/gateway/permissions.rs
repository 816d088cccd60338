//! Who may read a stream, and until when: seeing, granting, taking back. By whatever decides here: the local registry, what this
//! identity signs, or a contract, where every change is a transaction that costs gas and has to be meant; see [`spending`](super::spending).

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use veilcast::permission::ethereum::Action;
use veilcast::{Period, Permission, Timestamp, UserId};

use super::Gateway;
use super::body::Sent;
use super::caller::Caller;
use super::error::ApiError;
use super::known::must_be_known;
use super::params::{At, On, Params, lasting, moment, stream};
use super::routes::Routes;
use super::spending::{Consent, spend};
use crate::api_key::Verb;
use crate::args::{Kept, Registry};
use crate::commands::now;
use crate::commands::stream::subscribers;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/streams/{id}/subscribers", list)
        .post("/streams/{id}/permissions", grant)
        .delete("/streams/{id}/permissions/{user}", revoke)
}

async fn list(State(gateway): State<Gateway>, caller: Caller, At(id): At<String>) -> Result<Json<Value>, ApiError> {
    let stream = stream(&id)?;
    caller.may(Verb::Permissions, &stream)?;
    must_be_known(&gateway, &stream).await?;
    let client = &gateway.client;
    let listed = client.subscribers(&stream).await?;
    let (rules, holders) = (client.access_rules(&stream).await?, client.recipients(&stream).await?);
    Ok(Json(subscribers::in_json(&stream, &subscribers::rows(listed, &rules, &holders, now()))))
}

/// A moment as people and programs write one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Moment {
    Millis(u64),
    Text(String),
}

impl Moment {
    fn understood(&self, name: &str) -> Result<Timestamp, ApiError> {
        match self {
            Self::Millis(millis) => moment(name, &millis.to_string()),
            Self::Text(text) => moment(name, text),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Granted {
    user: String,
    permission: Option<String>,
    from: Option<Moment>,
    until: Option<Moment>,
    #[serde(rename = "for")]
    lasting: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    confirm: bool,
    max_cost_wei: Option<String>,
}

impl Granted {
    fn period(&self, now: Timestamp) -> Result<Period, ApiError> {
        let start = self.from.as_ref().map(|from| from.understood("from")).transpose()?;
        let end = match (&self.until, &self.lasting) {
            (Some(_), Some(_)) => return Err(ApiError::bad("give until or for, not both")),
            (Some(until), None) => Some(until.understood("until")?),
            (None, Some(span)) => Some(lasting(span, start.unwrap_or(now))?),
            (None, None) => None,
        };
        Ok(Period { start, end })
    }
}

async fn grant(
    State(gateway): State<Gateway>,
    caller: Caller,
    On(stream): On,
    sent: Sent,
) -> Result<Json<Value>, ApiError> {
    caller.may(Verb::Permissions, &stream)?;
    let granted: Granted = sent.json(&gateway, &caller).await?;
    let (user, permission) = (user(&granted.user)?, permission(granted.permission.as_deref())?);
    let period = granted.period(now())?;
    let consent = Consent::new(granted.dry_run, granted.confirm, granted.max_cost_wei.as_deref())?;
    let mut json = json!({
        "stream": stream.as_str(),
        "user": user.to_string(),
        "permission": permission.unwrap_or(Permission::Subscribe).name(),
        "from": period.start.map(Timestamp::as_millis),
        "until": period.end.map(Timestamp::as_millis),
    });
    let permission = permission.unwrap_or(Permission::Subscribe);
    let (client, id) = (gateway.client.clone(), stream.clone());
    if let Registry::Chain(_) = gateway.registry {
        let action = Action::Grant { stream: id, user, permission, period };
        return spend(&gateway, action, consent, json).await.map(Json);
    }
    consent.must_not_be_dry()?;
    match gateway.registry {
        Registry::Kept(Kept::Local) => {
            gateway.finish(async move { client.grant(&id, user, permission, period).await }).await??;
        }
        _ => {
            let signed = gateway.finish(async move {
                let line = client.issue_grant(&id, user, permission, period).await?;
                Ok::<_, veilcast::ClientError>((line, client.stream_record(&id).await?))
            });
            let (line, record) = signed.await??;
            (json["grant"], json["record"]) = (line.into(), record.into());
        }
    }
    Ok(Json(json))
}

#[derive(Deserialize)]
struct What {
    permission: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    confirm: bool,
    max_cost_wei: Option<String>,
}

async fn revoke(
    State(gateway): State<Gateway>,
    caller: Caller,
    At((id, who)): At<(String, String)>,
    Params(what): Params<What>,
) -> Result<Json<Value>, ApiError> {
    let stream = stream(&id)?;
    caller.may(Verb::Permissions, &stream)?;
    let (user, permission) = (user(&who)?, permission(what.permission.as_deref())?);
    let consent = Consent::new(what.dry_run, what.confirm, what.max_cost_wei.as_deref())?;
    must_be_known(&gateway, &stream).await?;
    let (client, id) = (gateway.client.clone(), stream.clone());
    let mut json = json!({ "stream": stream.as_str(), "user": user.to_string() });
    if let Registry::Chain(_) = gateway.registry {
        let permission = permission.unwrap_or(Permission::Subscribe);
        json["permission"] = permission.name().into();
        let action = Action::Revoke { stream: id, user, permission };
        return spend(&gateway, action, consent, json).await.map(Json);
    }
    consent.must_not_be_dry()?;
    match (gateway.registry, permission) {
        (Registry::Kept(Kept::Local), permission) => {
            let permission = permission.unwrap_or(Permission::Subscribe);
            gateway.finish(async move { client.revoke(&id, user, permission).await }).await??;
            json["permission"] = permission.name().into();
            json["revoked"] = now().as_millis().into();
        }
        (_, None) => {
            json["record"] = gateway.finish(async move { client.revoke_grants(&id, user).await }).await??.into();
        }
        (_, Some(_)) => {
            return Err(ApiError::bad("what was signed for a user is taken back all at once; leave permission away"));
        }
    }
    Ok(Json(json))
}

fn user(text: &str) -> Result<UserId, ApiError> {
    text.parse().map_err(|_| ApiError::bad("a user is an address, 0x and 40 hex digits"))
}

fn permission(text: Option<&str>) -> Result<Option<Permission>, ApiError> {
    text.map(str::parse).transpose().map_err(|error: String| ApiError::bad(error))
}
