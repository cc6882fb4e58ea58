//! The echo server on mio: HTTP requests and WebSocket messages come back.

#[path = "../../protocol/examples/echo/listen.rs"]
mod listen;
#[path = "../../protocol/examples/echo/machine.rs"]
mod machine;

use std::error::Error;

use keepwatch_mio::{Options, bind};

fn main() -> Result<(), Box<dyn Error>> {
    let (runtime, handle) = bind(Options::new([listen::address()?]))?;
    handle.local_addresses().iter().copied().for_each(listen::announce);
    runtime.serve(machine::Echo::new())?;
    Ok(())
}
