//! Conversations with the watch server, as scripts that are played in more than one world: in the simulator, where time is
//! virtual and every cut is tried, and over loopback against each runtime's binary. What is to come is the same in all.
//!
//! The scripts are the files of `runtime-sim/scenarios`, and a script is lines: `#` begins a remark, and any other line that
//! is not empty is a step.
//!
//! | step | what |
//! | --- | --- |
//! | `client NAME` | from here on it speaks; one that was not named before connects |
//! | `> TEXT` `>> TEXT` | it sends a line that ends in CRLF; these bytes alone |
//! | `< TEXT` `<< TEXT` | it is sent a line that ends in CRLF; these bytes alone |
//! | `GET TARGET ; FIELD ; ..` | it sends this request (any method), with `Host` |
//! | `PUT TARGET ; FIELD ; .. = BODY` | the same with a body and its `Content-Length` |
//! | `answer STATUS ; FIELD ; .. = BODY` | it is sent this answer, with `Date`, exactly these fields, and `Content-Length` |
//! | `json STATUS ; FIELD ; .. = BODY` | the same of JSON: a content type, and a line end behind the body |
//! | `stream TYPE` | it is sent the head of a stream |
//! | `chunk TEXT` `line TEXT` `last chunk` | it is sent a chunk; one that is a line; the last one |
//! | `socket TARGET ; FIELD ; ..` | it asks for a WebSocket |
//! | `accepted ; FIELD ; ..` | it is given one |
//! | `say TEXT` `say deflated TEXT` `say close CODE` | it sends a message, a compressed one, a Close frame |
//! | `message TEXT` `message deflated TEXT` `message close CODE REASON` | it is sent the same |
//! | `half-close` `reset` | it ends its side; it breaks the connection |
//! | `ended` | its server has ended the connection, and has sent nothing else before; it ends as well |
//! | `silence` | nobody was sent anything that was not said, and the speaker's connection is open |
//! | `wait TIME` | so much time passes: digits and `ms` or `s` |
//! | `drain` | the server is told to stop: SIGTERM |
//! | `exits` | the server has come to its end |
//!
//! In a text `@7` is the seventh revision behind the one at which the server began, `\r \n \\ \@ \* \xHH` are bytes, and
//! `\[90 ab]` is `ab` ninety times. In what is expected `*` is any bytes of one line. What is sent and not expected fails,
//! at the latest at the end of the script; there the server is told to stop, if it was not yet, and has to end well.

mod play;
mod script;
mod text;

pub(crate) use play::{Heard, World, play};
pub(crate) use script::{Scenario, all};
