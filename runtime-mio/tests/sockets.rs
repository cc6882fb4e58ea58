//! What every runtime must do, with mio.

use std::io;
use std::num::NonZeroUsize;

use keepwatch_mio::{Handle, Options, Runtime};
use keepwatch_protocol::Server;

#[path = "../../protocol/examples/echo/machine.rs"]
mod machine;
#[path = "../../runtime/examples-support/numbers.rs"]
mod numbers;
#[macro_use]
#[path = "../../runtime/tests-support/sockets.rs"]
mod support;

struct Mio;

impl support::Runs for Mio {
    type Runtime = Runtime;

    fn bind(options: Options) -> io::Result<(Runtime, Handle)> {
        keepwatch_mio::bind(options)
    }

    fn split(runtime: Runtime, count: NonZeroUsize) -> io::Result<Vec<Runtime>> {
        runtime.split(count)
    }

    fn run<S: Server>(runtime: Runtime, server: S) -> io::Result<S> {
        runtime.run(server)
    }
}

suite!(Mio);
