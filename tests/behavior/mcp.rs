//! What MCP clients may ask, and what they are not to find.

use http::Method;

use crate::harness::{Plan, post};

#[tokio::test(start_paused = true)]
async fn mcp_takes_the_methods_of_its_transport_alone() {
    let house = Plan::default().build().await;
    let mut caller = house.caller().await;
    for method in ["PUT", "PATCH", "HEAD", "OPTIONS", "PROPFIND"] {
        for path in ["/mcp/https", "/MCP", "/mcp/anything/"] {
            let mut request = post(path, "");
            *request.method_mut() = method.parse().unwrap();
            let answer = caller.call(request).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), "POST, GET, DELETE");
        }
    }
    assert_eq!(house.omni.arrived(), 0);
    for method in [Method::POST, Method::GET, Method::DELETE] {
        let mut request = post("/mcp/https", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
        *request.method_mut() = method;
        // A stream may not end, so its head is enough.
        house.caller().await.send(request).await.unwrap();
    }
    assert_eq!(house.omni.arrived(), 3);
}

#[tokio::test(start_paused = true)]
async fn clients_find_no_way_to_log_in() {
    let house = Plan::default().build().await;
    let mut caller = house.caller().await;
    for path in [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp/https",
        "/.well-known/oauth-authorization-server/",
        "/.Well-Known/openid-configuration",
        "/mcp/.well-known/openid-configuration",
        "/mcp/https/.well-known/oauth-authorization-server",
    ] {
        let answer = caller.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["type"], "urn:omnigate:problem:no-route", "{path}");
    }
    assert_eq!(house.omni.arrived(), 0);
}
