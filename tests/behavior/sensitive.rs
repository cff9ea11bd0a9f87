//! Calls that reach keys, people and rights: only by a route that was made for them.

use http::Method;

use crate::harness::{House, Plan, post};

/// The catch-all of the house, and routes that name what they take.
async fn house() -> House {
    let route = |name, path| {
        format!("[[routes]]\nname = \"{name}\"\npath = \"{path}\"\ncredential = \"org\"\n")
    };
    let more = [
        route("key", "/api/v1/api-keys/{id}"),
        route("area", "/api/{version}/embed/{*rest}"),
        route("users", "/api/scim/v2/Users"),
    ];
    Plan { more: more.concat(), ..Plan::default() }.build().await
}

#[tokio::test(start_paused = true)]
async fn no_wildcard_takes_a_sensitive_call_by_chance() {
    let house = house().await;
    let mut caller = house.caller().await;
    for (method, path) in [
        (Method::GET, "/api/v1/api-keys"),
        (Method::GET, "/API/V1/api-KEYS/"),
        (Method::GET, "/api/v1/api-%6beys"),
        (Method::GET, "/api/v1/api-%E2%84%AAeys"),
        (Method::GET, "/api/scim/v2/Groups"),
        (Method::HEAD, "/api/scim/v2/Groups"),
        (Method::OPTIONS, "/api/scim/v2/Groups"),
        (Method::GET, "/api/scim/v2/Users/7"),
        (Method::GET, "/api/v1/api-keys/k/more"),
        (Method::POST, "/api/v1/embed/sso/generate-session"),
        (Method::POST, "/embed/sso/generate-url"),
        (Method::POST, "/api/v1/connections"),
        (Method::DELETE, "/api/v1/connections/c"),
        (Method::POST, "/api/v1/users/u/model-roles"),
    ] {
        let mut request = post(path, "{}");
        *request.method_mut() = method.clone();
        let answer = caller.call(request).await;
        assert_eq!(answer.status, 403, "{method} {path}");
        if method != Method::HEAD {
            assert_eq!(answer.json()["type"], "urn:omnigate:problem:sensitive", "{method} {path}");
            assert!(answer.json()["detail"].as_str().unwrap().contains("sensitive = true"));
        }
    }
    assert_eq!(house.omni.arrived(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_route_that_names_the_endpoint_takes_it() {
    let house = house().await;
    let mut caller = house.caller().await;
    for path in ["/api/scim/v2/Users", "/api/v1/api-keys/k", "/api/v1/connections"] {
        assert_ne!(caller.get(path).await.status, 403, "{path}");
    }
    assert_eq!(house.omni.arrived(), 3);
}
