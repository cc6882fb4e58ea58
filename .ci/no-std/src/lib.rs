//! Proves that `keepwatch-protocol` needs no `std`: this library has a panic handler and an allocator of its own, and if anything
//! in the graph brings `std` in, it has two (error E0152).
#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

use keepwatch_protocol::Now;
use keepwatch_protocol::http1::{Config, ServerConnection};
use keepwatch_protocol::websocket::{Connection, Role};

extern crate alloc;

/// Uses the machines, so that they are compiled into the library.
#[unsafe(no_mangle)]
pub extern "C" fn keepwatch_no_std() -> bool {
    let http = ServerConnection::new(alloc::sync::Arc::new(Config::default()), Now::default());
    let websocket = Connection::new(Role::Server, alloc::sync::Arc::default(), 0, Now::default());
    http.deadline().is_some() || websocket.deadline().is_some()
}

struct NoMemory;

// SAFETY: it never gives out memory.
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ALLOCATOR: NoMemory = NoMemory;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}
