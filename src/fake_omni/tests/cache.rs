//! What a cache in front is judged by: who asked, what is stale, what comes late.

use http::header::{ACCEPT, CACHE_CONTROL, SET_COOKIE, TRANSFER_ENCODING, VARY};

use super::*;
use crate::omni;

/// The reads whose answers are JSON.
fn documents() -> impl Iterator<Item = String> {
    reads().filter(|path| !path.ends_with("/query/wait") && !path.ends_with("/download/made-up"))
}

async fn revision(client: &mut Client, path: &str) -> Option<u64> {
    let answer = client.get(path).await;
    assert_eq!(answer.status, StatusCode::OK, "{path}");
    answer.json()["revision"].as_u64()
}

async fn write(client: &mut Client, method: &Method, path: &str) -> Answer {
    let mut request = client.ask(method.clone(), path);
    let mut body = write_body("written by a test");
    if path == "/api/v1/uploads" {
        request = request.header(CONTENT_TYPE, "multipart/form-data; boundary=x");
        body = "--x--\r\n".to_owned();
    }
    client.send(request.body(Body::full(body)).unwrap()).await
}

/// Which reads show something else after a write.
async fn changed(method: &Method, path: &str) -> Vec<String> {
    let (_, mut client) = unlimited_client().await;
    let mut before = Vec::new();
    for read in documents() {
        before.push((revision(&mut client, &read).await, read));
    }
    let status = write(&mut client, method, path).await.status;
    assert!(status.is_success(), "{method} {path}: {status}");
    let mut changed = Vec::new();
    for (before, read) in before {
        // Whatever was deleted is not found, or its list is.
        let answer = client.get(&read).await;
        let gone = answer.status == StatusCode::NOT_FOUND;
        if gone || answer.json()["revision"].as_u64() != before {
            changed.push(read);
        }
    }
    changed
}

#[tokio::test(start_paused = true)]
async fn every_read_names_who_asked_for_whom_and_how() {
    let omni = FakeOmni::new(Settings { keys: three_keys(), ..unlimited() });
    let mut org = Client::new(&omni, &three_keys()[0]).await;
    let mut ada = Client::new(&omni, &three_keys()[1]).await;
    let users = org.get("/api/scim/v2/Users?count=1").await.json();
    let user = users["Resources"][0]["id"].as_str().unwrap().to_owned();
    for read in documents() {
        // These two do not know `userId`, and models take no stranger.
        let others = read != "/api/v1/models" && !read.starts_with("/api/scim");
        let target = if others { format!("{read}?userId={user}") } else { read.clone() };
        let request = org.ask(Method::GET, &target).header(ACCEPT, "application/x-one");
        let answer = org.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{read}");
        assert_eq!(answer.fields["x-fake-accept"], "application/x-one");
        let whole = answer.json();
        assert_eq!(
            (&whole["seenBy"], &whole["asked"]),
            (&json!("org"), &json!("application/x-one"))
        );
        let lists = whole.as_object().unwrap().values().filter_map(Value::as_array);
        let records: Vec<&Value> = lists.flatten().filter(|one| one.is_object()).collect();
        for record in [&whole].into_iter().chain(records) {
            assert_eq!(record["seenBy"], "org", "{read}");
            assert_eq!(
                record["actingFor"],
                if others { json!(user) } else { Value::Null },
                "{read}"
            );
        }
        let answer = ada.get(&read).await;
        match answer.status {
            StatusCode::FORBIDDEN => {}
            status => assert_eq!((status.as_u16(), &answer.json()["seenBy"]), (200, &json!("ada"))),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_changes_what_the_facts_say() {
    // The lines of the table "Which writes stale which reads", each by one write.
    for (method, path, expected) in [
        (Method::PUT, "/api/v1/documents/x", "documents content folders labels models schedules"),
        (
            Method::POST,
            "/api/v1/models/x/branch/b/merge",
            "documents content models models/m/topic",
        ),
        (Method::PUT, "/api/v1/documents/x/favorite", "documents documents/d/favorites"),
        (Method::POST, "/api/v1/labels", "documents content folders labels"),
        (Method::PATCH, "/api/v1/folders/x/permissions", "documents/d/access-list folders"),
        (Method::POST, "/api/v1/folders", "folders content documents"),
        (
            Method::POST,
            "/api/v1/models/x/yaml",
            "models models/m/yaml models/m/view models/m/topic",
        ),
        (Method::PATCH, "/api/v1/connections/x", "connections models documents content"),
        (Method::DELETE, "/api/v1/connections/x", "labels schedules users/email-only uploads"),
        (Method::DELETE, "/api/v1/user-attributes/x", "labels user-attributes color-palettes"),
        (Method::PUT, "/api/v1/schedules/x/pause", "schedules schedules/s schedules/s/recipients"),
        (
            Method::POST,
            "/api/scim/v2/Groups",
            "documents folders users/u/model-roles users/email-only",
        ),
        (Method::POST, "/api/v1/uploads", "uploads models models/m/view"),
        (Method::PUT, "/api/v1/color-palettes/x", "color-palettes color-palettes/c"),
        (Method::PATCH, "/api/v1/ai/credit-controls", "ai/credit-controls/users"),
    ] {
        let (_, mut client) = unlimited_client().await;
        for read in expected.split(' ') {
            let read = format!("/api/v1/{read}");
            assert_eq!(revision(&mut client, &read).await, Some(0), "{read}");
        }
        let (near, far) = ("/api/v1/ai/branding", "/api/v1/ai/conversations");
        assert_eq!(revision(&mut client, near).await, None);
        let status = write(&mut client, &method, path).await.status;
        assert!(status.is_success(), "{method} {path}: {status}");
        for read in expected.split(' ') {
            let read = format!("/api/v1/{read}");
            assert_eq!(revision(&mut client, &read).await, Some(1), "{method} {path}: {read}");
        }
        let all = path.contains("scim") || method == Method::DELETE;
        assert_eq!(revision(&mut client, far).await, Some(u64::from(all)), "{method} {path}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_write_is_taken_and_what_it_changes_is_stale_by_the_catalogue() {
    let mut missed = Vec::new();
    for (method, path) in writes() {
        let row = omni::endpoint(&method, &path).unwrap();
        for read in changed(&method, &path).await {
            let shown = omni::endpoint(&Method::GET, &read).unwrap();
            if read != path && !shown.is_never_kept() && !row.stales().covers(shown) {
                missed.push(format!("{method} {path} -> {read}"));
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

#[tokio::test(start_paused = true)]
async fn the_fake_knows_each_endpoint_of_the_catalogue() {
    let known: BTreeSet<String> = writes()
        .chain(reads().map(|path| (Method::GET, path)))
        .map(|(method, path)| format!("{method} {path}"))
        .collect();
    for endpoint in omni::endpoints().filter(|one| !one.template().starts_with("/mcp")) {
        let path = made_up(endpoint.template());
        assert!(known.contains(&format!("{} {path}", endpoint.method())), "{endpoint}");
    }
}

#[tokio::test(start_paused = true)]
async fn records_are_made_renamed_and_removed() {
    let (_, mut client) = unlimited_client().await;
    for (list, key) in [("schedules", "id"), ("models", "id"), ("documents", "identifier")] {
        let name = json!({ "name": "the first name" });
        let list = format!("/api/v1/{list}");
        let made = client.call(Method::POST, &list, name).await.json();
        let id = made[key].as_str().unwrap().to_owned();
        let one = format!("{list}/{id}");
        let method = if list.ends_with("models") { Method::PATCH } else { Method::PUT };
        client.call(method, &one, json!({ "name": "the second" })).await;
        let size = if list.ends_with("documents") { 301 } else { 31 };
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = client.get(&format!("{list}?pageSize=100&cursor={cursor}")).await.json();
            found.extend(page["records"].as_array().unwrap().clone());
            let Some(next) = page["pageInfo"]["nextCursor"].as_str() else { break };
            cursor = next.replace('=', "%3D");
        }
        let record = found.iter().find(|record| record[key] == id).unwrap();
        assert_eq!(record["name"], "the second");
        if list.ends_with("models") {
            continue;
        }
        assert_eq!(found.len(), size);
        assert_eq!(client.get(&one).await.json()["name"], "the second");
        let gone = client.call(Method::DELETE, &one, Value::Null).await;
        assert_eq!(gone.status, StatusCode::OK);
        assert_eq!(client.get(&one).await.status, StatusCode::NOT_FOUND);
        let again = client.call(Method::DELETE, &one, Value::Null).await;
        assert_eq!(again.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test(start_paused = true)]
async fn letter_case_and_a_slash_at_the_end_make_no_other_endpoint() {
    let (_, mut client) = unlimited_client().await;
    for path in ["/API/V1/Labels", "/api/v1/labels/"] {
        assert_eq!(client.get(path).await.json()["labels"].as_array().unwrap().len(), 4);
    }
    let made = client.call(Method::POST, "/api/v1/LABELS/", json!({ "name": "n" })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(revision(&mut client, "/api/v1/labels").await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_a_refused_write_would_have_changed_stays() {
    let (_, mut client) = unlimited_client().await;
    for (method, path, body) in [
        (Method::POST, "/api/v1/labels", json!({ "name": "verified" })),
        (Method::DELETE, "/api/v1/labels/none", Value::Null),
        (Method::PUT, "/api/v1/documents/dfffffff", json!({ "name": "n" })),
    ] {
        assert!(client.call(method, path, body).await.status.is_client_error(), "{path}");
        assert_eq!(revision(&mut client, "/api/v1/labels").await, Some(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_held_answer_shows_what_there_was_when_it_was_asked_for() {
    let (omni, mut writer) = unlimited_client().await;
    let mut reader = Client::new(&omni, &writer.key).await;
    let hold = Hold::new();
    let rule = Rule::new(Fault::Hold(hold.clone())).method(Method::GET);
    omni.fail(rule.target("/api/v1/labels?page=1").times(1));
    let read = tokio::spawn(async move { reader.get("/api/v1/labels?page=1").await });
    hold.wait_for(1).await;
    write(&mut writer, &Method::POST, "/api/v1/labels").await;
    assert_eq!(revision(&mut writer, "/api/v1/labels?page=2").await, Some(1));
    assert!(!read.is_finished());
    hold.release();
    let old = read.await.unwrap().json();
    assert_eq!((&old["revision"], old["labels"].as_array().unwrap().len()), (&json!(0), 4));
    assert_eq!(revision(&mut writer, "/api/v1/labels?page=1").await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_read_has_looked_before_and_a_slow_write_acts_after() {
    let settings = Settings { answer_time: Duration::from_secs(5), ..unlimited() };
    let omni = FakeOmni::new(settings);
    let key = omni.0.settings.keys[0].clone();
    let (mut one, mut two) = (Client::new(&omni, &key).await, Client::new(&omni, &key).await);
    let writing =
        tokio::spawn(async move { write(&mut two, &Method::POST, "/api/v1/labels").await });
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(revision(&mut one, "/api/v1/labels").await, Some(0), "asked at 3 s, read at 8 s");
    assert!(writing.is_finished());
    assert_eq!(revision(&mut one, "/api/v1/labels").await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn each_paged_list_has_the_pages_that_a_test_wants() {
    let omni = FakeOmni::new(Settings { records: Some(25), ..unlimited() });
    let mut client = Client::new(&omni, &omni.0.settings.keys[0]).await;
    for list in documents() {
        let first = client.get(&list).await.json();
        let total = first["pageInfo"]["totalRecords"].as_u64().or(first["totalResults"].as_u64());
        let Some(total) = total.filter(|total| *total > 2) else { continue };
        assert_eq!(total, if list.ends_with("/content") { 50 } else { 25 }, "{list}");
        let size = total / 5;
        let mut bodies = BTreeSet::new();
        let (mut cursor, mut pages) = (String::new(), 0);
        if first["pageInfo"].is_null() {
            for page in 0..5 {
                let target = format!("{list}?count={size}&startIndex={}", page * size + 1);
                bodies.insert(client.get(&target).await.body);
            }
            pages = 5;
        }
        while pages < 5 {
            pages += 1;
            let answer = client.get(&format!("{list}?pageSize={size}{cursor}")).await;
            let next = answer.json()["pageInfo"]["nextCursor"].as_str().map(str::to_owned);
            assert_eq!(next.is_none(), pages == 5, "{list}");
            let next = next.unwrap_or_default().replace('=', "%3D").replace('@', "%40");
            cursor = format!("&cursor={next}");
            bodies.insert(answer.body);
        }
        assert_eq!(bodies.len(), 5, "{list}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_is_as_long_as_asked_for_with_and_without_its_length() {
    const SIZE: usize = 5 * 1024 * 1024;
    let (omni, mut client) = unlimited_client().await;
    for path in ["/api/v1/folders", "/api/v1/labels", "/api/v1/models/m/yaml"] {
        let whole = client.get(&format!("{path}?bytes={SIZE}")).await;
        assert_eq!(
            (whole.body.len(), &whole.fields[CONTENT_LENGTH]),
            (SIZE, &SIZE.to_string().parse().unwrap())
        );
        assert_eq!(whole.json()["seenBy"], "org");
        let open = client.get(&format!("{path}?bytes={SIZE}&chunked")).await;
        assert!(!open.fields.contains_key(CONTENT_LENGTH));
        assert_eq!(
            (open.body, &open.fields[TRANSFER_ENCODING]),
            (whole.body, &"chunked".parse().unwrap())
        );
    }
    for bytes in ["x", "99999999999"] {
        let answer = client.get(&format!("/api/v1/labels?bytes={bytes}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    }
    // A body without a length that breaks off looks whole to nobody.
    omni.fail(Rule::new(Fault::Reset(Reset::MidBody)).skip(1).times(1));
    let target = format!("/api/v1/labels?bytes={SIZE}&chunked");
    assert_eq!(client.get(&target).await.body.len(), SIZE);
    let request = client.ask(Method::GET, &target).body(Body::empty()).unwrap();
    let cut = client.open(request).await.unwrap();
    assert!(cut.into_body().collect().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn fields_are_as_a_test_wants_them() {
    let (omni, mut client) = unlimited_client().await;
    let value = HeaderValue::from_static;
    omni.set_field("/api/v1/labels", ETAG, value("\"mine\""));
    omni.set_field("/api/v1/labels", VARY, value("Accept-Language"));
    omni.set_field("/api/v1/labels", SET_COOKIE, value("a=1"));
    omni.set_field("/api/v1/labels", SET_COOKIE, value("b=2"));
    omni.drop_field("/api/v1/labels", CACHE_CONTROL);
    let answer = client.get("/api/v1/labels").await;
    assert_eq!(
        (&answer.fields[ETAG], &answer.fields[VARY]),
        (&value("\"mine\""), &value("Accept-Language"))
    );
    assert_eq!(answer.fields.get_all(SET_COOKIE).iter().count(), 2);
    assert!(!answer.fields.contains_key(CACHE_CONTROL));
    let request = client.ask(Method::GET, "/api/v1/labels").header(IF_NONE_MATCH, "\"mine\"");
    let answer = client.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::NOT_MODIFIED);
    assert!(client.get("/api/v1/folders").await.fields.contains_key(CACHE_CONTROL));
    omni.heal();
    assert_eq!(client.get("/api/v1/labels").await.fields[VARY], "Accept-Encoding");
}
