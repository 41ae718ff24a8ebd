//! How many instructions a message takes, for `script/bench --instructions`: plays one case so many times and says nothing. Run under
//! callgrind twice with different counts, what is made once falls out of the difference.

#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, reason = "a bench, on the scenes' stage")]

#[path = "../tests/scenes/stage.rs"]
mod stage;

use self::stage::Stage;

const CONTACT: &str = "juliet@capulet.lit";

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (Some(case), Some(count)) = (arguments.next(), arguments.next().and_then(|count| count.parse::<u32>().ok()))
    else {
        println!("to-matrix to-xmpp presence typing");
        return;
    };
    let mut stage = Stage::xmpp(&format!("<item jid='{CONTACT}' name='Juliet' subscription='both'/>"));
    stage.server_sends(&format!("<presence from='{CONTACT}/balcony'/>"));
    stage.phone_sends(CONTACT, "the first makes the room");
    stage.pass(60_000);
    let room = stage.room(CONTACT);
    for number in 0..count {
        match case.as_str() {
            "to-matrix" => stage.phone_sends(CONTACT, "Art thou not Romeo, and a Montague?"),
            "to-xmpp" => stage.says(&room, "Neither, fair saint, if either thee dislike."),
            "presence" => {
                let show = if number.is_multiple_of(2) { "<show>away</show>" } else { "" };
                stage.server_sends(&format!("<presence from='{CONTACT}/balcony'>{show}</presence>"));
            }
            "typing" => stage.types(&room, number.is_multiple_of(2)),
            other => panic!("no case {other}"),
        }
    }
}
