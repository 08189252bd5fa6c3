//! Locks and presences in locket.

use super::{Done, exactly, lines, not_doubled};
use crate::failure::{Failure, of_locket};
use crate::flags::Parsed;
use crate::json;
use crate::target::Target;
use crate::verbs::Call;
use clients::locket::Client;
use std::io::Write;
use std::time::Duration;
use wire::locket::{self as m, Resource, TypeCode};

pub(super) async fn run(
    call: Call,
    parsed: &Parsed,
    target: &Target,
    out: &mut (dyn Write + Send),
) -> Done {
    exactly::<0>(parsed)?;
    match call {
        Call::Locks => list(&client(target)?, TypeCode::Lock, out).await,
        Call::Presences => list(&client(target)?, TypeCode::Presence, out).await,
        Call::ReleaseLock => {
            not_doubled(parsed, &[("-k", "--key"), ("-o", "--owner")])?;
            let (key, owner) = key_and_owner(parsed)?;
            let resource = Resource {
                key,
                owner,
                ..Resource::default()
            };
            let released = client(target)?.release(resource).await;
            released.map_err(|error| of_locket(&error))
        }
        call => {
            let kind = if call == Call::ClaimLock {
                TypeCode::Lock
            } else {
                TypeCode::Presence
            };
            let (resource, ttl) = claimed(parsed, kind)?;
            let locked = client(target)?.lock(resource, ttl).await;
            locked.map_err(|error| of_locket(&error))
        }
    }
}

fn client(target: &Target) -> Result<Client, Failure> {
    target
        .tls()
        .and_then(|tls| Client::with_tls(&target.locket_url, tls))
        .map_err(|error| Failure::component(format!("{error:#}")))
}

async fn list(locket: &Client, kind: TypeCode, out: &mut (dyn Write + Send)) -> Done {
    let resources = locket.fetch_all(kind).await;
    let resources = resources.map_err(|error| of_locket(&error))?;
    lines(out, resources.iter().map(json::resource))
}

fn claimed(parsed: &Parsed, kind: TypeCode) -> Result<(Resource, Duration), Failure> {
    let pairs = [
        ("-k", "--key"),
        ("-o", "--owner"),
        ("-v", "--value"),
        ("-t", "--ttl"),
    ];
    not_doubled(parsed, &pairs)?;
    let (key, owner) = key_and_owner(parsed)?;
    let ttl = u64::try_from(parsed.integer("ttl").unwrap_or(0)).unwrap_or(0);
    if ttl == 0 {
        return Err(Failure::invalid(
            "ttl should be an integer greater than zero",
        ));
    }
    let type_name = if kind == TypeCode::Lock {
        m::LOCK
    } else {
        m::PRESENCE
    };
    let resource = Resource {
        key,
        owner,
        value: parsed.text("value").to_owned(),
        type_name: type_name.into(),
        type_code: kind as i32,
    };
    Ok((resource, Duration::from_secs(ttl)))
}

fn key_and_owner(parsed: &Parsed) -> Result<(String, String), Failure> {
    for name in ["key", "owner"] {
        if parsed.text(name).is_empty() {
            return Err(Failure::invalid(format!("{name} cannot be empty")));
        }
    }
    Ok((
        parsed.text("key").to_owned(),
        parsed.text("owner").to_owned(),
    ))
}
