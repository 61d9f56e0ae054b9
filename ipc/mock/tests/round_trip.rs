//! Every type of the language, there and back through generated stubs.

mod samples;

use ipc_mock::{Fault, Faulty, Loopback};
use ipc_wire::{Bytes, CallError, Cap, LinkError, RawCap, Request, Retry, Str, Transport};
use samples::Echo;
use samples::every::{self, Client, Error, Inner, IntegersResult, Level, Outer, Wide};

fn client() -> Client<Loopback<Echo, 64>> {
    Client::new(Loopback::serving(Echo::default()))
}

#[test]
fn integers() {
    for (a, b, c, d, e, f, g, h, i, j) in [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (u8::MAX, i8::MIN, u16::MAX, i16::MIN, u32::MAX, i32::MIN, u64::MAX, i64::MIN, u128::MAX, i128::MIN),
        (1, -2, 3, -4, 5, -6, 7, -8, 9, -10),
    ] {
        let back = client().integers(a, b, c, d, e, f, g, h, i, j);
        assert_eq!(back, Ok(IntegersResult { a, b, c, d, e, f, g, h, i, j }));
    }
}

#[test]
fn structs() {
    let inner = |big| Inner { small: 3, big, level: Level::High };
    let value = Outer {
        inner: [inner(1), inner(u32::MAX)],
        name: Str::new("zwölf Byte").expect("fits"),
        huge: 1 << 100,
        flag: true,
        names: [Str::new("abc").expect("fits"), Str::EMPTY],
    };
    assert_eq!(client().outer(&value), Ok(value));
}

#[test]
fn text_and_bytes() {
    let result = client().text("exactly12 by", &[1, 0, 2, 0, 0]).expect("fits");
    assert_eq!((result.name.as_str(), result.data.as_slice()), ("exactly12 by", &[1, 0, 2, 0, 0][..]));
    let empty = client().text("", &[]).expect("fits");
    assert_eq!((empty.name, empty.data), (Str::EMPTY, Bytes::EMPTY));
    assert_eq!(client().text("thirteen byte", &[]), Err(CallError::Link(LinkError::BadMessage)));
    assert_eq!(client().text("", &[0; 6]), Err(CallError::Link(LinkError::BadMessage)));
}

#[test]
fn arrays_enums_and_bools() {
    let levels = [Level::Low, Level::Low, Level::High];
    let back = [Level::High, Level::Low, Level::Low];
    assert_eq!(client().arrays(&[0; 6], &levels, Wide::First, true), Ok(back));
    assert_eq!(client().arrays(&[0; 6], &levels, Wide::Last, false), Ok(back));
    assert_eq!(client().arrays(&[1, 2, 3, 4, 5, 0xaa], &levels, Wide::First, false), Ok(back));
    let refused = client().arrays(&[0; 6], &levels, Wide::First, false);
    assert_eq!(refused, Err(CallError::Link(LinkError::NoRights)));
}

#[test]
fn windows_are_copied_both_ways() {
    let mut out = [9; 10];
    assert_eq!(client().copy(&mut out, 1, b"abcdef"), Ok(6));
    assert_eq!(&out[..6], b"`cbedg");
    let mut all = [0; 32];
    assert_eq!(client().copy(&mut all, 0, &[5; 32]), Ok(32));
    assert_eq!(all, [5; 32]);
    assert_eq!(client().copy(&mut all, 0, &[5; 33]), Err(CallError::Link(LinkError::BadMessage)));
}

#[test]
fn capabilities_travel_beside_the_bytes() {
    let mut client = client();
    let result = client.caps(Cap::new(RawCap(11)), 41, Cap::new(RawCap(12)), Cap::new(RawCap(13))).expect("three");
    assert_eq!((result.back.raw(), result.number), (RawCap(13), 42));
    assert_eq!(client.one(Cap::new(RawCap(7))).expect("one").raw(), RawCap(7));
}

#[test]
fn errors_and_answers_that_come_later() {
    let mut client = client();
    assert_eq!(client.nothing(), Err(CallError::Server(Error::TooSlow)));
    assert_eq!(client.later(0), Err(CallError::Server(Error::Missing)));
    assert_eq!(client.later(21), Ok(42));
    assert_eq!(u16::from(Error::TooSlow), 300);
    assert_eq!(Error::try_from(300), Ok(Error::TooSlow));
    assert_eq!(Error::try_from(2), Err(2));
}

#[test]
fn equal_calls_have_equal_bytes() {
    struct Record(Vec<Vec<u8>>);
    impl Transport for Record {
        fn call(&mut self, request: Request<'_>, _: &mut [u8]) -> Result<ipc_wire::Reply, LinkError> {
            assert_eq!(request.bytes.len() % 8, 0);
            self.0.push(request.bytes.to_vec());
            Err(LinkError::NoPeer)
        }
        fn session(&self) -> &dyn ipc_wire::Session {
            &ipc_wire::NoSession
        }
    }
    let mut client = Client::new(Record(Vec::new()));
    for _ in 0..2 {
        assert_eq!(client.text("a", &[1]), Err(CallError::Link(LinkError::NoPeer)));
    }
    let calls = client.into_transport().0;
    assert_eq!(calls[0], calls[1]);
    assert_eq!(calls[0].len(), every::INTERFACE.methods[3].request.size);
}

#[test]
fn idempotent_calls_survive_restarts_and_others_are_sent_once() {
    let plan = |call| if call % 3 < 2 { Fault::RestartAfter } else { Fault::None };
    let faulty = Faulty::new(Loopback::<_, 64>::serving(Echo::default()), plan);
    let mut client = Client::new(Retry::new(faulty, &every::INTERFACE, 3));
    let mut out = [0; 3];
    assert_eq!(client.copy(&mut out, 0, b"abc"), Ok(3));
    assert_eq!(&out, b"abc");
    assert_eq!(client.later(1), Err(CallError::Link(LinkError::Restarted)));
    assert_eq!(client.transport().inner().inner().calls(), 4);
}

#[test]
fn faults_do_what_they_say() {
    let faults = [
        Fault::LoseRequest(LinkError::Deadline),
        Fault::LoseReply(LinkError::Deadline),
        Fault::RestartBefore,
        Fault::Delay(5),
        Fault::Delay(50),
    ];
    let plan = |call: u64| faults[call as usize];
    let mut client = Client::new(Faulty::new(Loopback::<_, 0>::serving(Echo::default()), plan));
    client.transport().set_deadline(10);
    let mut reached = Vec::new();
    let mut answers = Vec::new();
    for _ in faults {
        answers.push(client.text("x", &[]).map(|_| ()));
        reached.push(client.transport().inner().service().reached);
    }
    let lost = |error| Err(CallError::Link(error));
    let (deadline, restarted) = (lost(LinkError::Deadline), lost(LinkError::Restarted));
    assert_eq!(answers, [deadline, deadline, restarted, Ok(()), deadline]);
    assert_eq!(reached, [0, 1, 0, 1, 2]);
    assert_eq!(client.transport().elapsed_ns(), 15);
}
