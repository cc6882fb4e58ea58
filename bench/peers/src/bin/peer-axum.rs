//! axum: server-sent events, a chunked stream and WebSockets, each as its documentation has it.
#![forbid(unsafe_code)]

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::serve::ListenerExt;
use futures_util::StreamExt;
use keepwatch_peers::{Fault, Hub, listen};
use tokio_stream::wrappers::BroadcastStream;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let listener = listen().await?.tap_io(|stream| {
        let _gone = stream.set_nodelay(true);
    });
    let routes = Router::new()
        .route("/v1/kv/{*key}", put(publish))
        .route("/v1/watch", get(watch))
        .with_state(Hub::default());
    Ok(axum::serve(listener, routes).await?)
}

async fn publish(State(hub): State<Hub>, Path(key): Path<String>, value: Bytes) -> String {
    hub.put(&key, &value)
}

async fn watch(
    State(hub): State<Hub>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    let mut changes = hub.watch();
    if let Ok(upgrade) = upgrade {
        return upgrade.on_upgrade(|mut socket| async move {
            loop {
                // Both are futures that may be dropped.
                tokio::select! {
                    change = changes.recv() => {
                        let Some(text) = change.ok().and_then(|change| change.try_into().ok()) else { return };
                        if socket.send(Message::Text(text)).await.is_err() {
                            return;
                        }
                    }
                    message = socket.recv() => {
                        if !matches!(message, Some(Ok(_))) {
                            return;
                        }
                    }
                }
            }
        });
    }
    let changes = BroadcastStream::new(changes).filter_map(|change| async { change.ok() });
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accept == Some("text/event-stream") {
        let events = changes.map(|change| {
            let event = Event::default().event("put").id("1795168463759007");
            Ok::<_, Infallible>(event.data(String::from_utf8_lossy(&change)))
        });
        return Sse::new(events).into_response();
    }
    let lines = changes.map(|change| {
        let mut line = Vec::with_capacity(change.len() + 1);
        line.extend_from_slice(&change);
        line.push(b'\n');
        Ok::<_, Infallible>(Bytes::from(line))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}
