//! Handshakes that are refused, as a client sees it.

use keepwatch_sim::Conversation;
use keepwatch_watch::{Config, Revision, Shared};

#[test]
fn another_websocket_version_is_426_and_names_13() {
    let (server, _handle) = Shared::new(Config::default(), Revision::ZERO).machine(0);
    Conversation::new(server)
        .client(
            "GET /v1/watch HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .server(
            "HTTP/1.1 426 Upgrade Required\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/json\r\n\
             Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nContent-Length: 43\r\nConnection: upgrade\r\n\r\n\
             {\"error\":\"WebSocket version 13 is needed\"}\n",
        )
        .end();
}
