//! What errors and buffers say of themselves, in logs.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::{format, vec};
use core::fmt::{Debug, Display};

use crate::handler::SocketError;
use crate::http1::client::{ClientTimer, Failure, NotReusable};
use crate::http1::{self, Fault};
use crate::input::Input;
use crate::output::{Lease, SendQueue, Sink, Slices};
use crate::sse::{self, InvalidEvent};
use crate::websocket::assembly::AssemblyError;
use crate::websocket::deflate::RefusedExtension;
use crate::websocket::frame::HeadError;
use crate::websocket::handshake::{HandshakeError, OpeningError, RefusedAnswer, Rejected};
use crate::websocket::{self, Assembler, Expired, Message, MessageKind, Prepared, RecvError};

/// Each says something, in one line, that no other says.
fn all_differ<E: Debug + Display>(errors: &[E]) {
    let said: BTreeSet<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), errors.len(), "{errors:?} say {said:?}");
    for text in said {
        assert!(!text.is_empty() && !text.contains('\n') && !text.ends_with('.'), "{text:?}");
    }
}

#[test]
fn no_two_errors_of_http_say_the_same() {
    use http1::SendError as Send;
    all_differ(&[
        Send::Stale,
        Send::NotReusable(NotReusable::Busy),
        Send::Method,
        Send::Target,
        Send::Authority,
        Send::ExpectWithoutContent,
        Send::AwaitsContinue,
        Send::Unwanted,
        Send::ChunkedToHttp10,
        Send::UpgradeMalformed,
        Send::NotFinal,
        Send::NotInterim,
        Send::InterimToHttp10,
        Send::FieldName,
        Send::FieldValue,
        Send::FieldReserved,
        Send::HeadTooLarge,
        Send::NoContent,
        Send::TooLong,
        Send::TooShort,
        Send::RequestUnread,
        Send::UpgradeNotOffered,
        Send::UpgradeMissing,
    ]);
    all_differ(&[
        Failure::Malformed(Fault::Host),
        Failure::Malformed(Fault::BareCr),
        Failure::TruncatedLength { got: 1, want: 2 },
        Failure::NoResponse,
        Failure::TruncatedHead,
        Failure::TruncatedChunks,
        Failure::Unsolicited,
        Failure::UnexpectedUpgrade,
        Failure::TooManyInterim,
        Failure::TimedOut(ClientTimer::FirstByte),
        Failure::TimedOut(ClientTimer::Head),
        Failure::TimedOut(ClientTimer::Body),
    ]);
    all_differ(&[
        NotReusable::Busy,
        NotReusable::RequestSaidClose,
        NotReusable::ResponseSaidClose,
        NotReusable::Http10,
        NotReusable::CloseDelimited,
        NotReusable::RequestUnfinished,
        NotReusable::FaultyLength,
        NotReusable::Unsolicited,
        NotReusable::Upgraded,
        NotReusable::HungUp,
        NotReusable::Failed,
    ]);
}

#[test]
fn no_two_errors_of_a_websocket_say_the_same() {
    use websocket::SendError as Send;
    all_differ(&[
        Send::Closing,
        Send::MessageUnfinished,
        Send::OtherKind,
        Send::InvalidText,
        Send::MustMask,
        Send::FrameTooLong,
        Send::ControlTooLong,
    ]);
    let heads = [
        HeadError::ReservedBits,
        HeadError::ReservedOpcode,
        HeadError::FragmentedControl,
        HeadError::LongControl,
        HeadError::Unmasked,
        HeadError::Masked,
        HeadError::LengthNotMinimal,
        HeadError::LengthTooLong,
    ];
    all_differ(&heads);
    let others = [
        RecvError::NothingToContinue,
        RecvError::MessageUnfinished,
        RecvError::MessageTooLarge,
        RecvError::TooManyEmptyFragments,
        RecvError::InvalidText,
        RecvError::InvalidDeflate,
        RecvError::NoMemory,
        RecvError::CloseTooShort,
        RecvError::InvalidCloseCode,
        RecvError::InvalidCloseReason,
    ];
    all_differ(&[&heads.map(RecvError::Head)[..], &others].concat());
    all_differ(&[Expired::PongMissing, Expired::CloseMissing, Expired::Idle]);
    all_differ(&[AssemblyError::TooLarge, AssemblyError::InvalidText]);
    all_differ(&[
        SocketError::Malformed(RecvError::InvalidText),
        SocketError::Expired(Expired::Idle),
        SocketError::Handshake(HandshakeError::TimedOut),
        SocketError::Lost,
    ]);
}

#[test]
fn no_two_errors_of_a_handshake_say_the_same() {
    use RefusedExtension as Refused;
    all_differ(&[
        Refused::NotOffered,
        Refused::Several,
        Refused::Malformed,
        Refused::Beyond,
        Refused::Window,
    ]);
    let answers = [
        RefusedAnswer::Status,
        RefusedAnswer::Upgrade,
        RefusedAnswer::Connection,
        RefusedAnswer::Accept,
        RefusedAnswer::Extension,
        RefusedAnswer::Protocol,
    ];
    all_differ(&answers);
    all_differ(&answers.map(HandshakeError::Answer));
    all_differ(&[
        Rejected::Method,
        Rejected::HttpVersion,
        Rejected::Host,
        Rejected::Upgrade,
        Rejected::Connection,
        Rejected::Version,
        Rejected::Key,
        Rejected::Origin,
        Rejected::Protocol,
        Rejected::ForeignOrigin,
    ]);
    all_differ(&[
        OpeningError::Protocol,
        OpeningError::Field,
        OpeningError::Http(http1::SendError::Target),
        OpeningError::Http(http1::SendError::Authority),
    ]);
    all_differ(&[InvalidEvent::Id, InvalidEvent::Event]);
    all_differ(&[sse::EventTooLong]);
}

#[test]
fn what_holds_bytes_shows_how_many_and_not_which() {
    let secret = *b"secret";
    let mut queue = SendQueue::new(100);
    queue.put(&secret);
    let mut slices = Slices::new(100);
    assert!(slices.push(&secret));
    let mut assembler = Assembler::new(100);
    assert_eq!(assembler.push(MessageKind::Binary, &secret, true, false), Ok(None));
    let mut decoder = sse::Decoder::new(100);
    assert_eq!(decoder.decode(&mut Input::new(&mut secret.to_vec())), Ok(None));
    let shown = [
        format!("{:?}", Input::last(&mut secret.to_vec())),
        format!("{queue:?}"),
        format!("{slices:?}"),
        format!("{:?}", Lease::from(Arc::from(&secret[..]))),
        format!("{assembler:?}"),
        format!("{decoder:?}"),
        format!("{:?}", Prepared::new(Message::Text("secret"))),
    ];
    for text in shown {
        assert!(text.contains('6') && !text.contains("secret") && !text.contains("115"), "{text}");
    }
    let hung_up = [false, true].map(|last| {
        let mut bytes = vec![1];
        format!("{:?}", if last { Input::last(&mut bytes) } else { Input::new(&mut bytes) })
    });
    assert_eq!(hung_up, ["Input(1 bytes left, 0 consumed)", "Input(1 bytes left, 0 consumed, hung up)"]);
}
