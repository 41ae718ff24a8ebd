//! `recover`: rebuilds the mapping in the store from the rooms that the bot is in.

use std::{
    io::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    exit::Exit,
    meter::{Meter, Stop},
    run, settings, store,
};
use crate::{
    config::Config,
    domain::{Now, Timestamp},
    engine::recovery::{Recovery, Report},
    matrix::{
        client::{CallError, Client},
        start::{self, Check, Identity},
        survey::survey,
    },
    registration::Registration,
};

/// What an empty store beside rooms means, for `run` and `check`.
pub const UNRECOVERED: &str = "the store is empty, but the bot is in rooms of an earlier one: run `messenger-bridge recover` first, or put the old \
     store back; with an empty store what is said in them would be lost and every contact would get a second room";

/// Is the bot in a room that `recover` would take in?
///
/// # Errors
/// What the homeserver said.
pub async fn is_needed(client: &Client, config: &Config) -> Result<bool, CallError> {
    let Some(homeserver) = settings::homeserver(config) else { return Ok(false) };
    let recovery = Recovery::new(homeserver.clone(), settings::settings(config));
    let mut found = false;
    survey(
        client,
        &homeserver.bot,
        |_| false,
        |room, _, _| {
            found = recovery.is_ours(&room.state);
            !found
        },
    )
    .await?;
    Ok(found)
}

fn tell(text: &str) {
    // Nothing is left to be done if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// `recover`.
pub fn recover(config: &Config, registration: &Registration) -> Exit {
    run::install_crypto();
    let (Some(identity), Ok(client), Some(homeserver)) =
        (run::identity(config, registration), run::client(config, registration, None), settings::homeserver(config))
    else {
        tell("the homeserver's address cannot be used");
        return Exit::ConfigInvalid;
    };
    let opened = match store::open(config, true) {
        Ok(opened) => opened,
        Err(error) => {
            tell(&error.to_string());
            return store::exit(&error);
        }
    };
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread().enable_all().build() else {
        tell("the runtime cannot be started");
        return Exit::Internal;
    };
    let stop = match Stop::listen() {
        Ok(stop) => stop,
        Err(error) => {
            tell(&format!("signals cannot be listened for: {error}"));
            return Exit::Internal;
        }
    };
    let mut recovery = Recovery::new(homeserver, settings::settings(config));
    let mut meter = Meter::new("rooms");
    let looked = runtime.block_on(async {
        tokio::select! {
            looked = look_around(&client, &identity, &mut recovery, &mut meter) => looked,
            () = stop.asked() => Err(Exit::Cancelled),
        }
    });
    meter.end();
    match looked {
        // Asked for at the last room.
        Ok(()) if !stop.is_asked() => {}
        Ok(()) | Err(Exit::Cancelled) => {
            tell(&format!(
                "Cancelled. {} were looked at, and nothing was written: the store is as it was. `recover` begins anew.",
                meter.count()
            ));
            return Exit::Cancelled;
        }
        Err(exit) => return exit,
    }
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Now { wall: Timestamp(i64::try_from(wall.as_millis()).unwrap_or(i64::MAX)), uptime: 0 };
    match recovery.finish(opened, now) {
        Ok(report) => {
            // Nothing is left to be done if stdout is closed.
            let _ = write!(std::io::stdout(), "{}", sentences(&report));
            Exit::Success
        }
        Err(error) => {
            tell(&error.to_string());
            store::exit(&error)
        }
    }
}

async fn look_around(
    client: &Client,
    identity: &Identity,
    recovery: &mut Recovery,
    meter: &mut Meter,
) -> Result<(), Exit> {
    if let Err(finding) = start::registration(client, identity).await {
        tell(&format!("{finding} {}", finding.remedy()));
        return Err(run::exit_of(Check::Registration, &finding));
    }
    let judge = recovery.beginning();
    let done = survey(
        client,
        &identity.bot,
        |state| judge.is_portal(state),
        |room, seen, total| {
            let count = |number| u64::try_from(number).unwrap_or(u64::MAX);
            meter.at(count(seen), Some(count(total)));
            recovery.take(room);
            true
        },
    );
    done.await.map_err(|error| {
        tell(&format!("{error} Nothing was written; run it again once the homeserver answers."));
        Exit::HomeserverUnreachable
    })
}

fn sentences(report: &Report) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    // Writing into a string cannot fail.
    for (owner, network, account, rooms) in &report.logins {
        let _ = writeln!(text, "{account} ({network}) of {owner}: {rooms} chats found again.");
    }
    if report.known > 0 {
        let _ = writeln!(text, "{} chats were known already.", report.known);
    }
    let _ = writeln!(text, "{} rooms with the bot alone found again.", report.management);
    for room in &report.doubles {
        let _ = writeln!(text, "{room} is a second room of its contact; the bridge does not use it.");
    }
    if report.abandoned > 0 {
        let _ = writeln!(text, "{} rooms of accounts that were signed out left alone.", report.abandoned);
    }
    if report.foreign > 0 {
        let _ = writeln!(text, "{} other rooms left alone.", report.foreign);
    }
    for network in &report.unknown_networks {
        let _ = writeln!(
            text,
            "The network \u{201c}{network}\u{201d} is not configured: give it this name in `networks`, or its chats stay silent."
        );
    }
    if report.logins.is_empty() && report.known == 0 {
        text.push_str("No chats were found.\n");
    } else if !report.logins.is_empty() {
        text.push_str("Each person has to sign in again; the bot tells them at the next start. Nothing was said twice or made anew.\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use ruma::owned_room_id;

    use super::*;
    use crate::domain::BareJid;

    #[test]
    fn the_report_says_what_is_to_be_done() {
        assert!(sentences(&Report::default()).ends_with("No chats were found.\n"));
        let report = Report {
            logins: vec![(
                ruma::owned_user_id!("@a:h"),
                "gone".to_owned(),
                BareJid::parse("a@x").expect("an address"),
                3,
            )],
            doubles: vec![owned_room_id!("!second:h")],
            unknown_networks: vec!["gone".to_owned()],
            ..Report::default()
        };
        let text = sentences(&report);
        for part in
            ["a@x (gone) of @a:h: 3 chats", "!second:h is a second room", "“gone” is not configured", "sign in again"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
