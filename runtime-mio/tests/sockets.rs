//! What every runtime must do, with mio.

use std::io;

use keepwatch_mio::{Handle, Options, Runtime};
use keepwatch_protocol::Server;

#[path = "../../protocol/examples/echo/machine.rs"]
mod machine;
#[macro_use]
#[path = "../../runtime/tests-support/sockets.rs"]
mod support;

struct Mio;

impl support::Runs for Mio {
    type Runtime = Runtime;

    fn bind(options: Options) -> io::Result<(Runtime, Handle)> {
        keepwatch_mio::bind(options)
    }

    fn serve(runtime: Runtime, server: impl Server) -> io::Result<()> {
        runtime.serve(server)
    }
}

suite!(Mio);
