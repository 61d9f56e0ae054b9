//! The sample interfaces, and a server that answers with what it gets.
#![allow(missing_docs, dead_code)]

include!(concat!(env!("OUT_DIR"), "/samples.rs"));

use every::{CapsResult, Error, IntegersResult, Level, Outer, TextResult, Wide};
use ipc_mock::Service;
use ipc_wire::{
    Answer, Any, Bytes, Caller, Cap, Dispatched, InWindow, Incoming, OutWindow, Refusal, Reply, Str, kernel,
};

/// Answers with what it gets.
#[derive(Default)]
pub struct Echo {
    /// Calls that got through the checks.
    pub reached: u64,
    /// The token and value of the call that waits.
    pub parked: Option<(u64, u64)>,
}

impl every::Server for Echo {
    fn nothing(&mut self, _: Caller) -> Answer<(), Error> {
        self.reached += 1;
        Err(Error::TooSlow.into())
    }

    fn integers(
        &mut self,
        _: Caller,
        a: u8,
        b: i8,
        c: u16,
        d: i16,
        e: u32,
        f: i32,
        g: u64,
        h: i64,
        i: u128,
        j: i128,
    ) -> Answer<IntegersResult, Error> {
        self.reached += 1;
        Ok(IntegersResult { a, b, c, d, e, f, g, h, i, j })
    }

    fn outer(&mut self, _: Caller, value: &Outer) -> Answer<Outer, Error> {
        self.reached += 1;
        Ok(*value)
    }

    fn text(&mut self, _: Caller, name: &str, data: &[u8]) -> Answer<TextResult, Error> {
        self.reached += 1;
        Ok(TextResult { name: Str::new(name).expect("fitted"), data: Bytes::new(data).expect("fitted") })
    }

    fn arrays(
        &mut self,
        _: Caller,
        octets: &[u8; 6],
        levels: &[Level; 3],
        wide: Wide,
        on: bool,
    ) -> Answer<[Level; 3], Error> {
        self.reached += 1;
        if on || wide == Wide::Last || octets[5] == 0xaa {
            return Ok([levels[2], levels[1], levels[0]]);
        }
        Err(Refusal::Link(ipc_wire::LinkError::NoRights))
    }

    fn copy(&mut self, _: Caller, to: OutWindow<'_>, key: u8, from: InWindow<'_>) -> Answer<u32, Error> {
        self.reached += 1;
        let len = from.len().min(to.len()).min(64);
        let mut data = [0; 64];
        from.read(0, &mut data[..len])?;
        data.iter_mut().for_each(|byte| *byte ^= key);
        to.write(0, &data[..len])?;
        Ok(len as u32)
    }

    fn caps(
        &mut self,
        _: Caller,
        first: Cap<every::Protocol>,
        number: u32,
        second: Cap<other::Protocol>,
        third: Cap<kernel::Frame>,
    ) -> Answer<CapsResult, Error> {
        self.reached += 1;
        assert_ne!(first.raw(), second.raw());
        Ok(CapsResult { back: Cap::new(third.raw()), number: number + 1 })
    }

    fn one(&mut self, _: Caller, object: Cap<Any>) -> Answer<Cap<every::Protocol>, Error> {
        self.reached += 1;
        Ok(Cap::new(object.raw()))
    }

    fn later(&mut self, caller: Caller, value: u64) -> Answer<u64, Error> {
        self.reached += 1;
        if value == 0 {
            return Err(Error::Missing.into());
        }
        self.parked = Some((caller.token, value));
        Err(Refusal::Pending)
    }
}

impl Service for Echo {
    fn call(&mut self, incoming: &Incoming<'_>, reply: &mut [u8]) -> Dispatched {
        every::dispatch(self, incoming, reply)
    }

    fn settle(&mut self, token: u64, reply: &mut [u8]) -> Option<Reply> {
        let (parked, value) = self.parked.take()?;
        assert_eq!(token, parked);
        Some(every::reply::later(&(value * 2), reply))
    }

    fn restart(&mut self) {
        *self = Self::default();
    }
}
