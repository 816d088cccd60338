//! The dashboard, in a real browser, of the real binary.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "a failed test is what it is for")]

mod browser;
mod common;

use std::io::Write;

use browser::{Browser, log_in, went_well};
use common::{Daemon, Home, VERBS, curl, end, in_path, subscribed};
use serde_json::{Value, json};

/// The id of the key in use.
fn current(home: &Home, stream: &str) -> String {
    let listed = home.run(&["key", "list", stream, "--json"]).json();
    let keys = listed["keys"].as_array().unwrap();
    keys.iter().find(|key| key["current"] == true).unwrap()["key_id"].as_str().unwrap().to_owned()
}

/// Nothing is wider than the window.
fn fits(page: &mut Browser) {
    let wide = page.value("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    assert_eq!(wide, 0, "{}", page.text("body"));
}

#[test]
fn somebody_logs_in_sees_live_figures_and_rekeys_by_keyboard_alone() {
    let (seller, buyer) = (Home::new(), Home::new());
    let stream = seller.stream("prices");
    seller.run(&["stream", "grant", &stream, &buyer.address(), "--for", "30d"]).ok();
    let comes = Home::new();
    seller.run(&["stream", "grant", &stream, &comes.address(), "--for", "7d"]).ok();
    let key = seller.api_key("desk", &VERBS);
    let daemon = Daemon::start(&seller, &[]);
    let reading = subscribed(&buyer, &stream, &daemon.address, &[]);
    let mut publishing = seller.start(&["publish", &stream]);
    let mut publish = move |line: &str| writeln!(publishing.stdin.as_mut().unwrap(), "{line}").unwrap();
    publish("first");
    reading.stdout.wait_for("first");

    let mut page = Browser::start();
    page.size(1200, 800, 1);
    page.prefers("light", "no-preference");
    page.open(&format!("{}/dashboard", daemon.url));
    page.until("document.activeElement?.id === 'login-key'");
    page.picture("login");
    page.type_in("veilcast_0000");
    page.press("Enter");
    page.until("document.getElementById('login-fault').textContent === 'This API key is not known here.'");
    assert_eq!(page.value("sessionStorage.length"), 0);
    log_in(&mut page, &daemon, &key);
    assert_eq!(page.value("Object.values(sessionStorage).length"), 1);
    assert_eq!(page.value("document.cookie"), "");

    // What is published, given and granted is there without anybody asking again.
    page.until("document.querySelectorAll('#subscribers tbody tr').length === 2");
    page.until("document.querySelectorAll('#keys tbody tr').length === 1");
    page.until("document.querySelector('[data-key=requests]').textContent.includes('given')");
    page.until("document.querySelectorAll('#timeline .paid').length === 2 && document.querySelectorAll('#timeline .reach').length === 1");
    assert!(page.text("#picture-words").contains("2 subscribers who may read now"), "{}", page.text("#picture-words"));
    let published = page.text("[data-key=published] .note");
    publish("second");
    reading.stdout.wait_for("second");
    page.until(&format!("document.querySelector('[data-key=published] .note').textContent !== {}", json!(published)));

    // By keyboard: to the button, what it will do is told, then it is done.
    let before = current(&seller, &stream);
    page.tab_to("rekey");
    page.press("Enter");
    page.until("document.activeElement?.id === 'go'");
    let told = page.text(".prediction");
    assert!(
        told.contains("2 of 2 subscribers get the new key: 1 sent it now, 1 without a key yet when they ask."),
        "{told}"
    );
    assert!(told.contains("Nobody else can read from the next message on."), "{told}");
    page.picture("rekey");
    for _ in 0..8 {
        page.press("Tab");
        let inside = "document.activeElement === document.body || document.getElementById('dialog').contains(document.activeElement)";
        assert_eq!(page.value(inside), true, "focus left the dialog");
    }
    // Nothing is done by looking at it.
    page.press("Escape");
    page.until("!document.getElementById('dialog').open && document.activeElement?.id === 'rekey'");
    assert_eq!(current(&seller, &stream), before);
    page.press("Enter");
    page.until("document.activeElement?.id === 'go'");
    page.press("Enter");
    page.until("document.activeElement?.id === 'done'");
    assert!(page.text("#dialog").contains("1 subscriber has it already"), "{}", page.text("#dialog"));
    let after = current(&seller, &stream);
    assert_ne!(after, before);
    assert!(page.text("#dialog").contains(&after));
    page.press("Enter");
    page.until("!document.getElementById('dialog').open && document.activeElement?.id === 'rekey'");
    page.until("document.querySelectorAll('#keys tbody tr').length === 2");
    publish("third");
    reading.stdout.wait_for("third");

    page.picture("light");
    page.prefers("dark", "reduce");
    page.picture("dark");
    page.prefers("light", "reduce");
    page.size(360, 740, 2);
    page.until("document.getElementById('timeline').getBoundingClientRect().width < 360");
    fits(&mut page);
    page.picture("phone");
    page.value("document.getElementById('rekey').click()");
    page.until("document.activeElement?.id === 'go'");
    fits(&mut page);
    page.picture("phone-rekey");
    page.press("Escape");
    page.value("document.getElementById('logout').click()");
    page.until("document.activeElement?.id === 'login-key'");
    fits(&mut page);
    assert_eq!(page.value("sessionStorage.length"), 0);
    went_well(&page, &daemon, 1);
    end(reading);
    daemon.end();
}

#[test]
fn paid_time_is_given_and_taken_back_on_the_page_and_a_revoked_api_key_ends_there() {
    let (seller, buyer) = (Home::new(), Home::new());
    let (stream, user) = (seller.stream("prices"), buyer.address());
    let key = seller.api_key("desk", &VERBS);
    let daemon = Daemon::start(&seller, &[]);
    let mut page = Browser::start();
    page.size(1200, 800, 1);
    log_in(&mut page, &daemon, &key);
    page.until("document.getElementById('subscribers-words')?.textContent === 'Nobody has a grant yet.'");

    page.tab_to("grant");
    page.press("Enter");
    page.until("document.activeElement?.id === 'grant-user'");
    assert_eq!(page.value("document.getElementById('go').disabled"), true);
    page.type_in(&user);
    page.until("!document.getElementById('go').disabled");
    let told = page.text(".prediction");
    assert!(told.contains("They may read from now until") && told.contains("are given all keys"), "{told}");
    page.tab_to("go");
    page.press("Enter");
    page.until("document.activeElement?.id === 'done'");
    page.press("Enter");
    page.until("document.querySelector('#subscribers tbody .tag')?.textContent === 'may read'");
    let listed = seller.run(&["stream", "subscribers", &stream, "--json"]).json();
    let one = &listed["subscribers"][0];
    assert_eq!((one["user"].as_str(), one["status"].as_str()), (Some(user.as_str()), Some("active")));
    let days = one["until"].as_u64().unwrap() - one["since"].as_u64().unwrap();
    // From when the page says, to the moment: the node counts from when it hears of it.
    assert!(days.abs_diff(30 * 86_400_000) < 60_000, "{days}");

    page.value("document.querySelector('#subscribers tbody button').click()");
    page.until("document.activeElement?.id === 'go'");
    let told = page.text(".prediction");
    assert!(told.contains("Taken back, they are given no key any more."), "{told}");
    page.press("Enter");
    page.until("document.activeElement?.id === 'done'");
    page.press("Enter");
    page.until("document.querySelector('#subscribers tbody .tag')?.textContent === 'taken back'");
    let listed = seller.run(&["stream", "subscribers", &stream, "--json"]).json();
    assert_eq!(listed["subscribers"][0]["status"], "revoked");
    went_well(&page, &daemon, 0);

    seller.run(&["api-key", "revoke", "desk"]).ok();
    page.until("document.getElementById('board').hidden");
    assert!(page.text("#login-fault").contains("was revoked"), "{}", page.text("#login-fault"));
    assert_eq!(page.value("sessionStorage.length"), 0);
    daemon.end();
}

#[test]
fn names_that_are_markup_are_shown_as_text() {
    let seller = Home::new();
    let hostile = "<img/src=x/onerror=document.title='owned'><script>document.title='owned'</script>&amp;";
    let stream = seller.stream(hostile);
    let key = seller.api_key("a.b-c_d", &VERBS);
    let daemon = Daemon::start(&seller, &[]);
    seller.run_with(&["publish", &stream], b"{\"n\":1}\n").ok();
    let mut page = Browser::start();
    page.size(1200, 800, 1);
    log_in(&mut page, &daemon, &key);
    page.until("document.querySelectorAll('#keys tbody tr').length === 1");
    assert_eq!(page.text("#detail h2"), hostile);
    assert_eq!(page.text("#streams .path"), hostile);
    page.value("document.getElementById('rekey').click()");
    page.until("document.activeElement?.id === 'go'");
    page.press("Enter");
    page.until("document.activeElement?.id === 'done'");
    page.press("Enter");
    page.until("document.getElementById('said').textContent.includes('<img')");
    // Alerts and whatever else the node tells go the same way.
    let shown = page.value(
        "import('/dashboard/figures.js').then(({ alerts }) => { const place = document.getElementById('alerts'); \
         alerts(place, [{ code: '<b>', level: 'error', message: '<img src=x onerror=alert(1)>' }]); return place.textContent; })",
    );
    assert!(shown.as_str().unwrap().contains("<img src=x onerror=alert(1)>"), "{shown}");
    assert_eq!(page.value("document.images.length + document.querySelectorAll('script:not([src]), b').length"), 0);
    assert_eq!(page.value("document.title"), "Veilcast");
    // The browser itself lets no text become markup here, and no script in that stands in it.
    let kept = page.value(
        "(() => { const at = document.createElement('p'); try { at.innerHTML = '<b>'; } catch (fault) { return fault.name; } return at.innerHTML; })()",
    );
    assert_eq!(kept, "TypeError");
    daemon.end();
}

#[test]
fn every_file_of_the_page_goes_out_under_its_policy_and_other_sites_can_neither_frame_nor_use_it() {
    let seller = Home::new();
    let (stream, key) = (seller.stream("prices"), seller.api_key("desk", &VERBS));
    let daemon = Daemon::start(&seller, &[]);
    for path in ["/dashboard", "/dashboard/app.js", "/dashboard/style.css", "/dashboard/icon.svg"] {
        let answer = daemon.ask(path, &["-i"]);
        let head = answer.body.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "x-frame-options: deny",
        ] {
            assert!(head.contains(part), "{part} is missing at {path}: {head}");
        }
        assert!(!head.contains("unsafe") && !head.contains("set-cookie") && !head.contains("access-control"), "{head}");
        assert_eq!(answer.status, 200);
    }
    for path in ["/dashboard/..%2Fmod.rs", "/dashboard/mod.rs", "/dashboard/nothing.js"] {
        daemon.ask(path, &["--path-as-is"]).refused(404, "no_route");
    }
    // Without the header there is no key, whatever cookies a browser sends along, and with it no other site is let in.
    let rekey = format!("/streams/{}/keys/rekey", in_path(&stream));
    let cookie = format!("Cookie: veilcast.api-key={key}; apiKey={key}");
    daemon.ask(&rekey, &["-X", "POST", "-H", &cookie]).refused(401, "unauthorized");
    for from in ["Origin: http://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
        daemon.with(&key, &rekey, &["-X", "POST", "-H", from]).refused(403, "cross_site");
        daemon.with(&key, "/overview", &["-H", from]).refused(403, "cross_site");
        daemon.ask("/dashboard", &["-H", from]).refused(403, "cross_site");
    }
    assert!(
        daemon.with(&key, &format!("/streams/{}/keys", in_path(&stream)), &[]).ok()["keys"]
            .as_array()
            .unwrap()
            .is_empty()
    );
    daemon.end();
}

#[test]
fn what_is_told_is_what_the_api_key_is_for() {
    let seller = Home::new();
    let (mine, other) = (seller.stream("mine"), seller.stream("other"));
    let args = ["api-key", "add", "keys", "--stream", &mine, "--verb", "keys"];
    let key = seller.run(&args).ok();
    let daemon = Daemon::start(&seller, &[]);
    daemon.ask("/overview", &[]).refused(401, "unauthorized");
    let seen = daemon.with(&key, "/overview", &[]).ok();
    assert!(seen["node"].is_null() && seen["alerts"] == json!([]), "{seen}");
    let ids: Vec<&Value> = seen["streams"].as_array().unwrap().iter().map(|stream| &stream["id"]).collect();
    assert_eq!((ids, &seen["streams"][0]["may"]), (vec![&json!(mine)], &json!(["keys"])));

    let at = |stream: &str, more: &str| format!("/streams/{}/{more}", in_path(stream));
    let told = daemon.with(&key, &at(&mine, "timeline"), &[]).ok();
    assert_eq!(told["keys"]["list"], json!([]));
    assert!(told["subscribers"]["fault"].as_str().unwrap().contains("does not allow"), "{told}");
    for more in ["timeline", "predict?act=rekey", "predict?act=rotate"] {
        daemon.with(&key, &at(&other, more), &[]).refused(403, "out_of_scope");
    }
    assert!(daemon.with(&key, &at(&mine, "predict?act=rekey"), &[]).ok()["refused"].is_null());
    let user = seller.address();
    for act in ["grant", "revoke"] {
        daemon.with(&key, &at(&mine, &format!("predict?act={act}&user={user}")), &[]).refused(403, "out_of_scope");
    }
    let desk = seller.api_key("desk", &VERBS);
    for wrong in ["predict?act=none", "predict?act=grant", "predict?act=grant&user=0x1", "predict"] {
        assert_eq!(daemon.with(&desk, &at(&mine, wrong), &[]).status, 400, "{wrong}");
    }
    let nothing = daemon.with(&desk, &at(&mine, &format!("predict?act=revoke&user={user}")), &[]).ok();
    assert!(nothing["refused"].as_str().unwrap().contains("no grant"), "{nothing}");
    let past = daemon.with(&desk, &at(&mine, &format!("predict?act=grant&user={user}&until=1500000000000")), &[]).ok();
    assert!(past["refused"].as_str().unwrap().contains("in the past"), "{past}");
    let node = daemon.with(&desk, "/overview", &[]).ok();
    assert_eq!(
        (node["node"]["identity"].as_str(), node["streams"].as_array().unwrap().len()),
        (Some(user.as_str()), 2)
    );
    assert_eq!(curl(&[&format!("{}/dashboard", daemon.url)]).status, 200);
    daemon.end();
}
