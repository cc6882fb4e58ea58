//! A handler that pushes: each WebSocket is sent a number every second, from 1 on, and gets back what it says.

use std::collections::HashMap;
use std::time::Duration;

use keepwatch_protocol::ConnectionId;
use keepwatch_protocol::handler::{Handler, Request, Response, Socket};
use keepwatch_protocol::http1::StatusCode;
use keepwatch_protocol::websocket::{Close, Message};

const SECOND: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Numbers {
    /// The last number that each was sent.
    sent: HashMap<ConnectionId, u64>,
}

impl Handler for Numbers {
    fn request(&mut self, _: Request<'_>) -> Response {
        Response::new(StatusCode::NOT_FOUND).with_body("the numbers are for WebSockets\n")
    }

    fn accepts_websocket(&mut self, _: Request<'_>) -> bool {
        true
    }

    fn opened(&mut self, socket: &mut Socket<'_>) {
        self.sent.insert(socket.id(), 0);
        socket.wake_after(SECOND);
    }

    fn woken(&mut self, socket: &mut Socket<'_>) {
        let number = self.sent.entry(socket.id()).or_default();
        *number += 1;
        // Refused only if it is closing.
        let _closing = socket.send(Message::Text(&number.to_string()));
        socket.wake_after(SECOND);
    }

    fn message(&mut self, message: Message<'_>, socket: &mut Socket<'_>) {
        let _closing = socket.send(message);
    }

    fn closed(&mut self, id: ConnectionId, _: Close<'_>) {
        self.sent.remove(&id);
    }
}
