//! What every runtime must do, with smol; and what only a future can.

use std::io::{self, Read, Write};
use std::num::NonZeroUsize;
use std::pin::pin;

use keepwatch_protocol::{Closed, Server};
use keepwatch_smol::{Handle, Options, Runtime, bind, connect};

#[path = "../../protocol/examples/echo/machine.rs"]
mod machine;
#[path = "../../runtime/examples-support/numbers.rs"]
mod numbers;
#[macro_use]
#[path = "../../runtime/tests-support/sockets.rs"]
mod support;

struct Smol;

impl support::Runs for Smol {
    type Runtime = Runtime;

    fn bind(options: Options) -> io::Result<(Runtime, Handle)> {
        bind(options)
    }

    fn split(runtime: Runtime, count: NonZeroUsize) -> io::Result<Vec<Runtime>> {
        Ok(runtime.split(count))
    }

    fn run<S: Server>(runtime: Runtime, server: S) -> io::Result<S> {
        smol::block_on(runtime.run(server))
    }
}

suite!(Smol);

#[test]
fn dropping_the_future_closes_everything() {
    let (runtime, handle) = bind(Options::new([([127, 0, 0, 1], 0).into()])).unwrap();
    let address = handle.local_addresses()[0];
    let (echo, closed) = support::Echo::new();
    let (talked, done) = smol::channel::bounded(1);
    let client = support::spawn(move || {
        let mut client = support::connect(address);
        client.write_all(b"!").unwrap();
        client.read_exact(&mut [0]).unwrap();
        talked.send_blocking(()).unwrap();
        client.read(&mut [0]).unwrap_or(0)
    });
    smol::block_on(smol::future::or(async { drop(runtime.serve(echo).await) }, async {
        done.recv().await.unwrap();
    }));
    assert_eq!(client.join().unwrap(), 0);
    assert!(std::net::TcpStream::connect(address).is_err());
    assert_eq!(closed.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected), "the server is gone");
}

#[test]
fn a_client_and_its_server_share_a_thread() {
    let (runtime, handle) = bind(Options::new([([127, 0, 0, 1], 0).into()])).unwrap();
    let client = support::client(support::Heard::saying(vec![b"hi".to_vec()]));
    let talk = async {
        let talked = connect([handle.local_addresses()[0]], Options::default(), client).await;
        handle.shutdown(support::PATIENCE);
        talked.unwrap().into_handler()
    };
    let (served, heard) = smol::block_on(smol::future::zip(runtime.serve(machine::Echo::new()), talk));
    served.unwrap();
    assert_eq!((heard.messages, heard.clean), (vec![b"hi".to_vec()], vec![true]));
}

#[test]
fn any_executor_can_run_it() {
    let (runtime, handle) = bind(Options::new([([127, 0, 0, 1], 0).into()])).unwrap();
    let (echo, closed) = support::Echo::new();
    let executor = smol::Executor::new();
    let serving = executor.spawn(runtime.serve(echo)); // it is Send
    let address = handle.local_addresses()[0];
    let client = smol::unblock(move || {
        let mut client = support::connect(address);
        client.write_all(b"!").unwrap();
        client.read_exact(&mut [0]).unwrap();
    });
    let conversation = executor.run(async {
        client.await;
        handle.shutdown(support::PATIENCE);
        serving.await.unwrap();
    });
    smol::block_on(pin!(conversation));
    assert_eq!(closed.try_recv(), Ok(Closed::Finished));
}
