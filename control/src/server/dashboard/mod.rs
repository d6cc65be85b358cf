//! The dashboard: one page, and what it asks for.
//!
//! What data planes see is asked of their HTTP endpoints when somebody looks, not told by them all the time over their links: so nobody
//! pays for what nobody reads, and streams and long lists are as they are there. A data plane says at its Hello where its endpoint is; an
//! answer is passed on only if it names that very data plane.

mod node;

use std::net::IpAddr;

use hyper::body::{Bytes, Incoming};
use ringgate_identity::{VIEWER_CHALLENGE, ViewerToken};
use serde_json::{Value, json};

use super::http::{Body, text, whole};
use crate::registry::Registry;

/// What the page may do: nothing but load its own parts and ask this process. Nobody may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const ICON: &str = "image/svg+xml";
const JSON: &str = "application/json";

/// Path, media type and content of each part of the page.
const ASSETS: [(&str, &str, &str); 7] = [
    ("/", HTML, include_str!("assets/index.html")),
    ("/style.css", CSS, include_str!("assets/style.css")),
    ("/icon.svg", ICON, include_str!("assets/icon.svg")),
    ("/main.js", SCRIPT, include_str!("assets/main.js")),
    ("/parts.js", SCRIPT, include_str!("assets/parts.js")),
    ("/figures.js", SCRIPT, include_str!("assets/figures.js")),
    ("/timeline.js", SCRIPT, include_str!("assets/timeline.js")),
];

/// See the module.
#[derive(Debug)]
pub struct Dashboard {
    registry: Registry,
    /// It is served on loopback only.
    is_local: bool,
    /// What must be shown, and what is shown to data planes.
    token: Option<ViewerToken>,
}

impl Dashboard {
    /// One over what is known of data planes.
    pub fn new(registry: Registry, is_local: bool, token: Option<ViewerToken>) -> Dashboard {
        Dashboard {
            registry,
            is_local,
            token,
        }
    }

    pub(super) async fn respond(&self, request: &http::Request<Incoming>) -> http::Response<Body> {
        let header = |name| {
            request
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or("")
        };
        if self.is_local && !names_this_machine(header(http::header::HOST)) {
            // A page in somebody's browser whose name was made to point here must not read what is served here.
            return secured(text(
                421,
                "the dashboard is for this machine: ask for it by localhost or its address\n",
            ));
        }
        if let Some(token) = &self.token
            && !token.admits(header(http::header::AUTHORIZATION))
        {
            let mut refused = text(
                401,
                "show the token of the key `http_token`, as the password of whatever user\n",
            );
            let challenge = http::HeaderValue::from_static(VIEWER_CHALLENGE);
            refused
                .headers_mut()
                .insert(http::header::WWW_AUTHENTICATE, challenge);
            return secured(refused);
        }
        let path = request.uri().path();
        if let Some((_, kind, content)) = ASSETS.iter().find(|asset| asset.0 == path) {
            return secured(whole(200, kind, Bytes::from_static(content.as_bytes())));
        }
        let response = match path.strip_prefix("/api/") {
            Some("nodes") => self.nodes().await,
            Some(rest) => match rest.strip_prefix("node/").and_then(|rest| rest.split_once('/')) {
                Some((node, page)) => {
                    self.node(node, page, request.uri().query(), header(http::header::ACCEPT))
                        .await
                }
                None => text(404, "there are /api/nodes and /api/node/NAME/PAGE\n"),
            },
            None => text(404, "here are /, /healthz and /readyz\n"),
        };
        secured(response)
    }

    /// All data planes.
    async fn nodes(&self) -> http::Response<Body> {
        let Ok(nodes) = self.registry.nodes().await else {
            return text(503, "the store does not answer\n");
        };
        let nodes: Vec<Value> = nodes
            .into_iter()
            .map(|node| {
                json!({
                    "id": node.id,
                    "software": node.software,
                    "agents_address": node.agents_address,
                    "http_address": node.http_address,
                    "cores": node.cores,
                    "applied_version": node.applied_version,
                    "rejected_reason": node.rejected_reason,
                    "agents": node.agents,
                    "attached": node.attached,
                    "since_unix": node.since_unix,
                })
            })
            .collect();
        let body = json!({"version": env!("CARGO_PKG_VERSION"), "nodes": nodes}).to_string();
        whole(200, JSON, body.into())
    }

    /// A page of one data plane.
    async fn node(&self, node: &str, page: &str, query: Option<&str>, accept: &str) -> http::Response<Body> {
        let Some(page) = node::PAGES.into_iter().find(|known| *known == page) else {
            return text(404, "a data plane has no such page\n");
        };
        let Ok(nodes) = self.registry.nodes().await else {
            return text(503, "the store does not answer\n");
        };
        let Some(known) = nodes
            .into_iter()
            .find(|known| escaped(&known.id) == node || known.id == node)
        else {
            return text(404, "there is no such data plane\n");
        };
        node::ask(&known, page, query, accept, self.token.as_ref()).await
    }
}

/// A name as `encodeURIComponent` writes it.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte);
    text.bytes()
        .map(|byte| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

fn secured(mut response: http::Response<Body>) -> http::Response<Body> {
    let headers = response.headers_mut();
    for (name, value) in [
        (http::header::CONTENT_SECURITY_POLICY, POLICY),
        (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (http::header::REFERRER_POLICY, "no-referrer"),
        (http::header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    response
}

/// Whether a `Host` is this machine's by any name that nobody else can give it.
fn names_this_machine(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.is_empty() || name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_names_are_served_on_loopback() {
        for good in ["localhost:46360", "127.0.0.1:46360", "[::1]:46360", "LocalHost"] {
            assert!(names_this_machine(good), "{good}");
        }
        for bad in [
            "evil.example:46360",
            "127.0.0.1.evil.example",
            "localhost.evil.example:1",
        ] {
            assert!(!names_this_machine(bad), "{bad}");
        }
    }

    #[test]
    fn the_page_needs_nothing_that_its_policy_forbids() {
        let (_, _, html) = ASSETS[0];
        assert!(
            !html.contains("<style") && !html.contains("style=") && !html.contains("onclick"),
            "nothing inline"
        );
        assert_eq!(
            html.matches("<script").count(),
            html.matches("<script type=\"module\" src=\"").count(),
            "no inline script"
        );
        for (path, _, content) in ASSETS {
            let names_w3 = content.matches("http://www.w3.org/2000/svg").count();
            assert_eq!(
                content.matches("http://").count(),
                names_w3,
                "{path} asks nobody else"
            );
            assert!(
                !content.contains("https://") && !content.contains("innerHTML") && !content.contains("eval("),
                "{path}"
            );
        }
    }

    #[test]
    fn names_are_found_as_browsers_write_them() {
        assert_eq!(escaped("local"), "local");
        assert_eq!(escaped("a b/c"), "a%20b%2Fc");
    }
}
