/// One of everything the language has. Used by the compiler's tests and by the round-trip tests of `ipc-mock`.
///
/// Second paragraph.
#[allow(
    clippy::too_many_arguments,
    clippy::let_unit_value,
    clippy::large_types_passed_by_value
)]
pub mod every {
    /// The 40-bit id: hash of name and major version.
    pub const ID: u64 = 692887153699;
    /// Marks capabilities to this interface.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Protocol {}
    /// Longest name.
    pub const NAME_MAX: u16 = 12;
    /// A constant in hexadecimal.
    pub const MAGIC: u64 = 3735928559;
    /// Request labels.
    pub mod label {
        /// Of `nothing`.
        pub const NOTHING: u64 = ::ipc_wire::Label::new(super::ID, 1).bits();
        /// Of `integers`.
        pub const INTEGERS: u64 = ::ipc_wire::Label::new(super::ID, 2).bits();
        /// Of `outer`.
        pub const OUTER: u64 = ::ipc_wire::Label::new(super::ID, 3).bits();
        /// Of `text`.
        pub const TEXT: u64 = ::ipc_wire::Label::new(super::ID, 4).bits();
        /// Of `arrays`.
        pub const ARRAYS: u64 = ::ipc_wire::Label::new(super::ID, 5).bits();
        /// Of `copy`.
        pub const COPY: u64 = ::ipc_wire::Label::new(super::ID, 6).bits();
        /// Of `caps`.
        pub const CAPS: u64 = ::ipc_wire::Label::new(super::ID, 7).bits();
        /// Of `one`.
        pub const ONE: u64 = ::ipc_wire::Label::new(super::ID, 8).bits();
        /// Of `later`.
        pub const LATER: u64 = ::ipc_wire::Label::new(super::ID, 4095).bits();
    }
    /// Why a server refuses.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[repr(u16)]
    pub enum Error {
        /// Nothing there.
        Missing = 1,
        /// Too slow.
        TooSlow = 300,
    }
    impl Error {
        /// What it means, in words for a log or a terminal.
        pub const fn meaning(self) -> &'static str {
            match self {
                Self::Missing => "Nothing there",
                Self::TooSlow => "too slow",
            }
        }
    }
    impl ::core::fmt::Display for Error {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            f.write_str(self.meaning())
        }
    }
    impl ::core::error::Error for Error {}
    impl ::core::convert::From<Error> for u16 {
        fn from(error: Error) -> u16 {
            error as u16
        }
    }
    impl ::core::convert::TryFrom<u16> for Error {
        /// The unknown code.
        type Error = u16;
        fn try_from(code: u16) -> ::core::result::Result<Self, u16> {
            match code {
                1 => Ok(Self::Missing),
                300 => Ok(Self::TooSlow),
                _ => Err(code),
            }
        }
    }
    impl ::core::convert::From<Error> for ::ipc_wire::Refusal<Error> {
        fn from(error: Error) -> Self {
            Self::Error(error)
        }
    }
    /// How sure.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[derive(
        ::zerocopy::TryFromBytes,
        ::zerocopy::IntoBytes,
        ::zerocopy::Immutable,
        ::zerocopy::KnownLayout
    )]
    #[repr(u8)]
    pub enum Level {
        /// Not at all.
        Low = 0,
        /// High.
        High = 7,
    }
    impl ::ipc_wire::Wire for Level {
        type Raw = Self;
        fn to_raw(&self) -> Self {
            *self
        }
        fn from_raw(raw: &Self) -> Option<Self> {
            Some(*raw)
        }
    }
    /// A wide enum.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[derive(
        ::zerocopy::TryFromBytes,
        ::zerocopy::IntoBytes,
        ::zerocopy::Immutable,
        ::zerocopy::KnownLayout
    )]
    #[repr(u32)]
    pub enum Wide {
        /// First.
        First = 1,
        /// Last.
        Last = 4294967295,
    }
    impl ::ipc_wire::Wire for Wide {
        type Raw = Self;
        fn to_raw(&self) -> Self {
            *self
        }
        fn from_raw(raw: &Self) -> Option<Self> {
            Some(*raw)
        }
    }
    /// Padding between fields and at the end.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Inner {
        /// Small.
        pub small: u8,
        /// Big.
        pub big: u32,
        /// Level.
        pub level: Level,
    }
    impl ::ipc_wire::Wire for Inner {
        type Raw = raw::Inner;
        fn to_raw(&self) -> raw::Inner {
            raw::Inner {
                small: ::ipc_wire::Wire::to_raw(&self.small),
                big: ::ipc_wire::Wire::to_raw(&self.big),
                level: ::ipc_wire::Wire::to_raw(&self.level),
                _pad1: [::ipc_wire::Zero::Zero; _],
                _pad3: [::ipc_wire::Zero::Zero; _],
            }
        }
        fn from_raw(idl_raw: &raw::Inner) -> Option<Self> {
            Some(Self {
                small: ::ipc_wire::Wire::from_raw(&idl_raw.small)?,
                big: ::ipc_wire::Wire::from_raw(&idl_raw.big)?,
                level: ::ipc_wire::Wire::from_raw(&idl_raw.level)?,
            })
        }
    }
    /// Nested, with text and arrays.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Outer {
        /// Two of them.
        pub inner: [Inner; 2],
        /// Name.
        pub name: ::ipc_wire::Str<12>,
        /// Huge.
        pub huge: u128,
        /// Flag.
        pub flag: bool,
        /// Names.
        pub names: [::ipc_wire::Str<3>; 2],
    }
    impl ::ipc_wire::Wire for Outer {
        type Raw = raw::Outer;
        fn to_raw(&self) -> raw::Outer {
            raw::Outer {
                inner: ::ipc_wire::Wire::to_raw(&self.inner),
                name: ::ipc_wire::Wire::to_raw(&self.name),
                huge: ::ipc_wire::Wire::to_raw(&self.huge),
                flag: ::ipc_wire::Wire::to_raw(&self.flag),
                names: ::ipc_wire::Wire::to_raw(&self.names),
                _pad2: [::ipc_wire::Zero::Zero; _],
                _pad5: [::ipc_wire::Zero::Zero; _],
            }
        }
        fn from_raw(idl_raw: &raw::Outer) -> Option<Self> {
            Some(Self {
                inner: ::ipc_wire::Wire::from_raw(&idl_raw.inner)?,
                name: ::ipc_wire::Wire::from_raw(&idl_raw.name)?,
                huge: ::ipc_wire::Wire::from_raw(&idl_raw.huge)?,
                flag: ::ipc_wire::Wire::from_raw(&idl_raw.flag)?,
                names: ::ipc_wire::Wire::from_raw(&idl_raw.names)?,
            })
        }
    }
    /// Result of `integers`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct IntegersResult {
        /// A.
        pub a: u8,
        /// B.
        pub b: i8,
        /// C.
        pub c: u16,
        /// D.
        pub d: i16,
        /// E.
        pub e: u32,
        /// F.
        pub f: i32,
        /// G.
        pub g: u64,
        /// H.
        pub h: i64,
        /// I.
        pub i: u128,
        /// J.
        pub j: i128,
    }
    /// Result of `text`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TextResult {
        /// Name.
        pub name: ::ipc_wire::Str<12>,
        /// Data.
        pub data: ::ipc_wire::Bytes<5>,
    }
    /// Result of `caps`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CapsResult {
        /// Back.
        pub back: ::ipc_wire::Cap<::ipc_wire::Any>,
        /// Number.
        pub number: u32,
    }
    /// Calls a server through a transport; does not know whether the server is local or on another node.
    #[derive(Clone, Copy, Debug)]
    pub struct Client<T> {
        idl_transport: T,
    }
    impl<T: ::ipc_wire::Transport> Client<T> {
        /// A client that calls through `transport`.
        pub const fn new(transport: T) -> Self {
            Self { idl_transport: transport }
        }
        /// The transport.
        pub fn transport(&mut self) -> &mut T {
            &mut self.idl_transport
        }
        /// Gives the transport back.
        pub fn into_transport(self) -> T {
            self.idl_transport
        }
        /// No parameters, no result.
        pub fn nothing(
            &mut self,
        ) -> ::core::result::Result<(), ::ipc_wire::CallError<Error>> {
            let mut idl_buffer = [0u8; ::ipc_wire::codec::reply_buffer(0)];
            let idl_call = ::ipc_wire::Request {
                label: label::NOTHING,
                bytes: &[],
                caps: &[],
            };
            let idl_reply = self.idl_transport.call(idl_call, &mut idl_buffer)?;
            let _ = ::ipc_wire::codec::sort_reply::<
                Error,
            >(&idl_reply, &idl_buffer, 0, 0)?;
            Ok(())
        }
        /// Every integer.
        pub fn integers(
            &mut self,
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
        ) -> ::core::result::Result<IntegersResult, ::ipc_wire::CallError<Error>> {
            let idl_request = raw::IntegersRequest {
                a: ::ipc_wire::Wire::to_raw(&a),
                b: ::ipc_wire::Wire::to_raw(&b),
                c: ::ipc_wire::Wire::to_raw(&c),
                d: ::ipc_wire::Wire::to_raw(&d),
                e: ::ipc_wire::Wire::to_raw(&e),
                f: ::ipc_wire::Wire::to_raw(&f),
                g: ::ipc_wire::Wire::to_raw(&g),
                h: ::ipc_wire::Wire::to_raw(&h),
                i: ::ipc_wire::Wire::to_raw(&i),
                j: ::ipc_wire::Wire::to_raw(&j),
                _pad4: [::ipc_wire::Zero::Zero; _],
            };
            let mut idl_buffer = [0u8; ::ipc_wire::codec::reply_buffer(64)];
            let idl_call = ::ipc_wire::Request {
                label: label::INTEGERS,
                bytes: ::zerocopy::IntoBytes::as_bytes(&idl_request),
                caps: &[],
            };
            let idl_reply = self.idl_transport.call(idl_call, &mut idl_buffer)?;
            let idl_payload = ::ipc_wire::codec::sort_reply::<
                Error,
            >(&idl_reply, &idl_buffer, 64, 0)?;
            let idl_raw: raw::IntegersReply = ::ipc_wire::codec::read(idl_payload)?;
            Ok(IntegersResult {
                a: ::ipc_wire::codec::value(&idl_raw.a)?,
                b: ::ipc_wire::codec::value(&idl_raw.b)?,
                c: ::ipc_wire::codec::value(&idl_raw.c)?,
                d: ::ipc_wire::codec::value(&idl_raw.d)?,
                e: ::ipc_wire::codec::value(&idl_raw.e)?,
                f: ::ipc_wire::codec::value(&idl_raw.f)?,
                g: ::ipc_wire::codec::value(&idl_raw.g)?,
                h: ::ipc_wire::codec::value(&idl_raw.h)?,
                i: ::ipc_wire::codec::value(&idl_raw.i)?,
                j: ::ipc_wire::codec::value(&idl_raw.j)?,
            })
        }
        /// A struct there and back.
        pub fn outer(
            &mut self,
            value: &Outer,
        ) -> ::core::result::Result<Outer, ::ipc_wire::CallError<Error>> {
            let idl_request = raw::OuterRequest {
                value: ::ipc_wire::Wire::to_raw(value),
            };
            let mut idl_buffer = [0u8; ::ipc_wire::codec::reply_buffer(80)];
            let idl_call = ::ipc_wire::Request {
                label: label::OUTER,
                bytes: ::zerocopy::IntoBytes::as_bytes(&idl_request),
                caps: &[],
            };
            let idl_reply = self.idl_transport.call(idl_call, &mut idl_buffer)?;
            let idl_payload = ::ipc_wire::codec::sort_reply::<
                Error,
            >(&idl_reply, &idl_buffer, 80, 0)?;
            let idl_raw: raw::OuterReply = ::ipc_wire::codec::read(idl_payload)?;
            Ok(::ipc_wire::codec::value(&idl_raw.value)?)
        }
        /// Text and bytes.
        pub fn text(
            &mut self,
            name: &str,
            data: &[u8],
        ) -> ::core::result::Result<TextResult, ::ipc_wire::CallError<Error>> {
            let idl_request = raw::TextRequest {
                name: ::ipc_wire::codec::text::<12>(name)?,
                data: ::ipc_wire::codec::data::<5>(data)?,
                _pad2: [::ipc_wire::Zero::Zero; _],
            };
            let mut idl_buffer = [0u8; ::ipc_wire::codec::reply_buffer(24)];
            let idl_call = ::ipc_wire::Request {
                label: label::TEXT,
                bytes: ::zerocopy::IntoBytes::as_bytes(&idl_request),
                caps: &[],
            };
            let idl_reply = self.idl_transport.call(idl_call, &mut idl_buffer)?;
            let idl_payload = ::ipc_wire::codec::sort_reply::<
                Error,
            >(&idl_reply, &idl_buffer, 24, 0)?;
            let idl_raw: raw::TextReply = ::ipc_wire::codec::read(idl_payload)?;
            Ok(TextResult {
                name: ::ipc_wire::codec::value(&idl_raw.name)?,
                data: ::ipc_wire::codec::value(&idl_raw.data)?,
            })
        }
        /// Arrays, enums and a bool.
        pub fn arrays(
            &mut self,
            octets: &[u8; 6],
            levels: &[Level; 3],
            wide: Wide,
            on: bool,
        ) -> ::core::result::Result<[Level; 3], ::ipc_wire::CallError<Error>> {
            let idl_request = raw::ArraysRequest {
                octets: ::ipc_wire::Wire::to_raw(octets),
                levels: ::ipc_wire::Wire::to_raw(levels),
                wide: ::ipc_wire::Wire::to_raw(&wide),
                on: ::ipc_wire::Wire::to_raw(&on),
                _pad2: [::ipc_wire::Zero::Zero; _],
                _pad4: [::ipc_wire::Zero::Zero; _],
            };
            let mut idl_buffer = [0u8; ::ipc_wire::codec::reply_buffer(8)];
            let idl_call = ::ipc_wire::Request {
                label: label::ARRAYS,
                bytes: ::zerocopy::IntoBytes::as_bytes(&idl_request),
                caps: &[],
            };
            let idl_reply = self.idl_transport.call(idl_call, &mut idl_buffer)?;
            let idl_payload = ::ipc_wire::codec::sort_reply::<
                Error,
            >(&idl_reply, &idl_buffer, 8, 0)?;
            let idl_raw: raw::ArraysReply = ::ipc_wire::codec::read(idl_payload)?;
            Ok(::ipc_wire::codec::value(&idl_raw.value)?)
        }
        /// Windows, an out window first.
        pub fn copy(
            &mut self,
            to: &mut [u8],
            key: u8,
            from: &[u8],
        ) -> ::core::result::Result<u32, ::ipc_wire::CallError<Error>> {
            let mut idl_plan = ::ipc_wire::codec::WindowPlan::new(
                self.idl_transport.session(),
            );
            let idl_at_to = idl_plan.place(to.len())?;
            let idl_at_from = idl_plan.place(from.len())?;
            self.idl_transport.session().write(idl_at_from.offset as usize, from)?;
            let idl_request = raw::CopyRequest {
                to: idl_at_to,
                key: ::ipc_wire::Wire::to_raw(&key),
                from: idl_at_from,
                _pad2: [::ipc_wire::Zero::Zero; _],
                _pad3: [::ipc_wire::Zero::Zero; _],
            };
            let mut idl_buffer = [0u8; ::ipc_wire::codec::reply_buffer(8)];
            let idl_call = ::ipc_wire::Request {
                label: label::COPY,
                bytes: ::zerocopy::IntoBytes::as_bytes(&idl_request),
                caps: &[],
            };
            let idl_reply = self.idl_transport.call(idl_call, &mut idl_buffer)?;
            let idl_payload = ::ipc_wire::codec::sort_reply::<
                Error,
            >(&idl_reply, &idl_buffer, 8, 0)?;
            self.idl_transport.session().read(idl_at_to.offset as usize, to)?;
            let idl_raw: raw::CopyReply = ::ipc_wire::codec::read(idl_payload)?;
            Ok(::ipc_wire::codec::value(&idl_raw.value)?)
        }
        /// Capabilities of all kinds among values.
        pub fn caps(
            &mut self,
            first: ::ipc_wire::Cap<super::every::Protocol>,
            number: u32,
            second: ::ipc_wire::Cap<super::other::Protocol>,
            third: ::ipc_wire::Cap<::ipc_wire::kernel::Frame>,
        ) -> ::core::result::Result<CapsResult, ::ipc_wire::CallError<Error>> {
            let idl_request = raw::CapsRequest {
                number: ::ipc_wire::Wire::to_raw(&number),
                _pad1: [::ipc_wire::Zero::Zero; _],
            };
            let mut idl_buffer = [0u8; ::ipc_wire::codec::reply_buffer(8)];
            let idl_call = ::ipc_wire::Request {
                label: label::CAPS,
                bytes: ::zerocopy::IntoBytes::as_bytes(&idl_request),
                caps: &[first.raw(), second.raw(), third.raw()],
            };
            let idl_reply = self.idl_transport.call(idl_call, &mut idl_buffer)?;
            let idl_payload = ::ipc_wire::codec::sort_reply::<
                Error,
            >(&idl_reply, &idl_buffer, 8, 1)?;
            let idl_raw: raw::CapsReply = ::ipc_wire::codec::read(idl_payload)?;
            Ok(CapsResult {
                back: ::ipc_wire::codec::cap(idl_reply.caps.as_slice(), 0)?,
                number: ::ipc_wire::codec::value(&idl_raw.number)?,
            })
        }
        /// One capability.
        pub fn one(
            &mut self,
            object: ::ipc_wire::Cap<::ipc_wire::Any>,
        ) -> ::core::result::Result<
            ::ipc_wire::Cap<super::every::Protocol>,
            ::ipc_wire::CallError<Error>,
        > {
            let mut idl_buffer = [0u8; ::ipc_wire::codec::reply_buffer(0)];
            let idl_call = ::ipc_wire::Request {
                label: label::ONE,
                bytes: &[],
                caps: &[object.raw()],
            };
            let idl_reply = self.idl_transport.call(idl_call, &mut idl_buffer)?;
            let _ = ::ipc_wire::codec::sort_reply::<
                Error,
            >(&idl_reply, &idl_buffer, 0, 1)?;
            Ok(::ipc_wire::codec::cap(idl_reply.caps.as_slice(), 0)?)
        }
        /// Answered later.
        pub fn later(
            &mut self,
            value: u64,
        ) -> ::core::result::Result<u64, ::ipc_wire::CallError<Error>> {
            let idl_request = raw::LaterRequest {
                value: ::ipc_wire::Wire::to_raw(&value),
            };
            let mut idl_buffer = [0u8; ::ipc_wire::codec::reply_buffer(8)];
            let idl_call = ::ipc_wire::Request {
                label: label::LATER,
                bytes: ::zerocopy::IntoBytes::as_bytes(&idl_request),
                caps: &[],
            };
            let idl_reply = self.idl_transport.call(idl_call, &mut idl_buffer)?;
            let idl_payload = ::ipc_wire::codec::sort_reply::<
                Error,
            >(&idl_reply, &idl_buffer, 8, 0)?;
            let idl_raw: raw::LaterReply = ::ipc_wire::codec::read(idl_payload)?;
            Ok(::ipc_wire::codec::value(&idl_raw.value)?)
        }
    }
    /// What a server of this interface does. Arguments are checked; the first names the caller and the call.
    pub trait Server {
        /// No parameters, no result.
        fn nothing(
            &mut self,
            caller: ::ipc_wire::Caller,
        ) -> ::ipc_wire::Answer<(), Error>;
        /// Every integer.
        fn integers(
            &mut self,
            caller: ::ipc_wire::Caller,
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
        ) -> ::ipc_wire::Answer<IntegersResult, Error>;
        /// A struct there and back.
        fn outer(
            &mut self,
            caller: ::ipc_wire::Caller,
            value: &Outer,
        ) -> ::ipc_wire::Answer<Outer, Error>;
        /// Text and bytes.
        fn text(
            &mut self,
            caller: ::ipc_wire::Caller,
            name: &str,
            data: &[u8],
        ) -> ::ipc_wire::Answer<TextResult, Error>;
        /// Arrays, enums and a bool.
        fn arrays(
            &mut self,
            caller: ::ipc_wire::Caller,
            octets: &[u8; 6],
            levels: &[Level; 3],
            wide: Wide,
            on: bool,
        ) -> ::ipc_wire::Answer<[Level; 3], Error>;
        /// Windows, an out window first.
        fn copy(
            &mut self,
            caller: ::ipc_wire::Caller,
            to: ::ipc_wire::OutWindow<'_>,
            key: u8,
            from: ::ipc_wire::InWindow<'_>,
        ) -> ::ipc_wire::Answer<u32, Error>;
        /// Capabilities of all kinds among values.
        fn caps(
            &mut self,
            caller: ::ipc_wire::Caller,
            first: ::ipc_wire::Cap<super::every::Protocol>,
            number: u32,
            second: ::ipc_wire::Cap<super::other::Protocol>,
            third: ::ipc_wire::Cap<::ipc_wire::kernel::Frame>,
        ) -> ::ipc_wire::Answer<CapsResult, Error>;
        /// One capability.
        fn one(
            &mut self,
            caller: ::ipc_wire::Caller,
            object: ::ipc_wire::Cap<::ipc_wire::Any>,
        ) -> ::ipc_wire::Answer<::ipc_wire::Cap<super::every::Protocol>, Error>;
        /// Answered later.
        fn later(
            &mut self,
            caller: ::ipc_wire::Caller,
            value: u64,
        ) -> ::ipc_wire::Answer<u64, Error>;
    }
    /// Checks a call and hands it to `server`. The reply's payload goes to the start of `buffer`, which has
    /// [`ipc_wire::MAX_PAYLOAD`] bytes. Anything malformed is answered here and never reaches the server.
    pub fn dispatch<S: Server + ?Sized>(
        server: &mut S,
        incoming: &::ipc_wire::Incoming<'_>,
        buffer: &mut [u8],
    ) -> ::ipc_wire::Dispatched {
        let answer = match incoming.label {
            label::NOTHING => idl_on_nothing(server, incoming, buffer),
            label::INTEGERS => idl_on_integers(server, incoming, buffer),
            label::OUTER => idl_on_outer(server, incoming, buffer),
            label::TEXT => idl_on_text(server, incoming, buffer),
            label::ARRAYS => idl_on_arrays(server, incoming, buffer),
            label::COPY => idl_on_copy(server, incoming, buffer),
            label::CAPS => idl_on_caps(server, incoming, buffer),
            label::ONE => idl_on_one(server, incoming, buffer),
            label::LATER => idl_on_later(server, incoming, buffer),
            _ => Err(::ipc_wire::LinkError::NoMethod),
        };
        answer
            .unwrap_or_else(|error| ::ipc_wire::Dispatched::Reply(
                ::ipc_wire::Reply::link_error(error),
            ))
    }
    fn idl_on_nothing<S: Server + ?Sized>(
        idl_server: &mut S,
        idl_incoming: &::ipc_wire::Incoming<'_>,
        idl_buffer: &mut [u8],
    ) -> ::core::result::Result<::ipc_wire::Dispatched, ::ipc_wire::LinkError> {
        ::ipc_wire::codec::check_empty(idl_incoming, 0)?;
        Ok(
            match idl_server.nothing(idl_incoming.from) {
                Ok(result) => {
                    ::ipc_wire::Dispatched::Reply(reply::nothing(&result, idl_buffer))
                }
                Err(refusal) => {
                    ::ipc_wire::codec::refuse(
                        refusal,
                        idl_incoming.from.token,
                        idl_buffer,
                    )
                }
            },
        )
    }
    fn idl_on_integers<S: Server + ?Sized>(
        idl_server: &mut S,
        idl_incoming: &::ipc_wire::Incoming<'_>,
        idl_buffer: &mut [u8],
    ) -> ::core::result::Result<::ipc_wire::Dispatched, ::ipc_wire::LinkError> {
        let idl_raw: raw::IntegersRequest = ::ipc_wire::codec::request(idl_incoming, 0)?;
        let a = ::ipc_wire::codec::value(&idl_raw.a)?;
        let b = ::ipc_wire::codec::value(&idl_raw.b)?;
        let c = ::ipc_wire::codec::value(&idl_raw.c)?;
        let d = ::ipc_wire::codec::value(&idl_raw.d)?;
        let e = ::ipc_wire::codec::value(&idl_raw.e)?;
        let f = ::ipc_wire::codec::value(&idl_raw.f)?;
        let g = ::ipc_wire::codec::value(&idl_raw.g)?;
        let h = ::ipc_wire::codec::value(&idl_raw.h)?;
        let i = ::ipc_wire::codec::value(&idl_raw.i)?;
        let j = ::ipc_wire::codec::value(&idl_raw.j)?;
        Ok(
            match idl_server.integers(idl_incoming.from, a, b, c, d, e, f, g, h, i, j) {
                Ok(result) => {
                    ::ipc_wire::Dispatched::Reply(reply::integers(&result, idl_buffer))
                }
                Err(refusal) => {
                    ::ipc_wire::codec::refuse(
                        refusal,
                        idl_incoming.from.token,
                        idl_buffer,
                    )
                }
            },
        )
    }
    fn idl_on_outer<S: Server + ?Sized>(
        idl_server: &mut S,
        idl_incoming: &::ipc_wire::Incoming<'_>,
        idl_buffer: &mut [u8],
    ) -> ::core::result::Result<::ipc_wire::Dispatched, ::ipc_wire::LinkError> {
        let idl_raw: raw::OuterRequest = ::ipc_wire::codec::request(idl_incoming, 0)?;
        let value = ::ipc_wire::codec::value(&idl_raw.value)?;
        Ok(
            match idl_server.outer(idl_incoming.from, &value) {
                Ok(result) => {
                    ::ipc_wire::Dispatched::Reply(reply::outer(&result, idl_buffer))
                }
                Err(refusal) => {
                    ::ipc_wire::codec::refuse(
                        refusal,
                        idl_incoming.from.token,
                        idl_buffer,
                    )
                }
            },
        )
    }
    fn idl_on_text<S: Server + ?Sized>(
        idl_server: &mut S,
        idl_incoming: &::ipc_wire::Incoming<'_>,
        idl_buffer: &mut [u8],
    ) -> ::core::result::Result<::ipc_wire::Dispatched, ::ipc_wire::LinkError> {
        let idl_raw: raw::TextRequest = ::ipc_wire::codec::request(idl_incoming, 0)?;
        let name: ::ipc_wire::Str<12> = ::ipc_wire::codec::value(&idl_raw.name)?;
        let data: ::ipc_wire::Bytes<5> = ::ipc_wire::codec::value(&idl_raw.data)?;
        Ok(
            match idl_server.text(idl_incoming.from, &name, &data) {
                Ok(result) => {
                    ::ipc_wire::Dispatched::Reply(reply::text(&result, idl_buffer))
                }
                Err(refusal) => {
                    ::ipc_wire::codec::refuse(
                        refusal,
                        idl_incoming.from.token,
                        idl_buffer,
                    )
                }
            },
        )
    }
    fn idl_on_arrays<S: Server + ?Sized>(
        idl_server: &mut S,
        idl_incoming: &::ipc_wire::Incoming<'_>,
        idl_buffer: &mut [u8],
    ) -> ::core::result::Result<::ipc_wire::Dispatched, ::ipc_wire::LinkError> {
        let idl_raw: raw::ArraysRequest = ::ipc_wire::codec::request(idl_incoming, 0)?;
        let octets = ::ipc_wire::codec::value(&idl_raw.octets)?;
        let levels = ::ipc_wire::codec::value(&idl_raw.levels)?;
        let wide = ::ipc_wire::codec::value(&idl_raw.wide)?;
        let on = ::ipc_wire::codec::value(&idl_raw.on)?;
        Ok(
            match idl_server.arrays(idl_incoming.from, &octets, &levels, wide, on) {
                Ok(result) => {
                    ::ipc_wire::Dispatched::Reply(reply::arrays(&result, idl_buffer))
                }
                Err(refusal) => {
                    ::ipc_wire::codec::refuse(
                        refusal,
                        idl_incoming.from.token,
                        idl_buffer,
                    )
                }
            },
        )
    }
    fn idl_on_copy<S: Server + ?Sized>(
        idl_server: &mut S,
        idl_incoming: &::ipc_wire::Incoming<'_>,
        idl_buffer: &mut [u8],
    ) -> ::core::result::Result<::ipc_wire::Dispatched, ::ipc_wire::LinkError> {
        let idl_raw: raw::CopyRequest = ::ipc_wire::codec::request(idl_incoming, 0)?;
        let to = ::ipc_wire::OutWindow::check(idl_incoming.session, idl_raw.to)?;
        let key = ::ipc_wire::codec::value(&idl_raw.key)?;
        let from = ::ipc_wire::InWindow::check(idl_incoming.session, idl_raw.from)?;
        Ok(
            match idl_server.copy(idl_incoming.from, to, key, from) {
                Ok(result) => {
                    ::ipc_wire::Dispatched::Reply(reply::copy(&result, idl_buffer))
                }
                Err(refusal) => {
                    ::ipc_wire::codec::refuse(
                        refusal,
                        idl_incoming.from.token,
                        idl_buffer,
                    )
                }
            },
        )
    }
    fn idl_on_caps<S: Server + ?Sized>(
        idl_server: &mut S,
        idl_incoming: &::ipc_wire::Incoming<'_>,
        idl_buffer: &mut [u8],
    ) -> ::core::result::Result<::ipc_wire::Dispatched, ::ipc_wire::LinkError> {
        let idl_raw: raw::CapsRequest = ::ipc_wire::codec::request(idl_incoming, 3)?;
        let number = ::ipc_wire::codec::value(&idl_raw.number)?;
        Ok(
            match idl_server
                .caps(
                    idl_incoming.from,
                    ::ipc_wire::codec::cap(idl_incoming.caps, 0)?,
                    number,
                    ::ipc_wire::codec::cap(idl_incoming.caps, 1)?,
                    ::ipc_wire::codec::cap(idl_incoming.caps, 2)?,
                )
            {
                Ok(result) => {
                    ::ipc_wire::Dispatched::Reply(reply::caps(&result, idl_buffer))
                }
                Err(refusal) => {
                    ::ipc_wire::codec::refuse(
                        refusal,
                        idl_incoming.from.token,
                        idl_buffer,
                    )
                }
            },
        )
    }
    fn idl_on_one<S: Server + ?Sized>(
        idl_server: &mut S,
        idl_incoming: &::ipc_wire::Incoming<'_>,
        idl_buffer: &mut [u8],
    ) -> ::core::result::Result<::ipc_wire::Dispatched, ::ipc_wire::LinkError> {
        ::ipc_wire::codec::check_empty(idl_incoming, 1)?;
        Ok(
            match idl_server
                .one(idl_incoming.from, ::ipc_wire::codec::cap(idl_incoming.caps, 0)?)
            {
                Ok(result) => {
                    ::ipc_wire::Dispatched::Reply(reply::one(&result, idl_buffer))
                }
                Err(refusal) => {
                    ::ipc_wire::codec::refuse(
                        refusal,
                        idl_incoming.from.token,
                        idl_buffer,
                    )
                }
            },
        )
    }
    fn idl_on_later<S: Server + ?Sized>(
        idl_server: &mut S,
        idl_incoming: &::ipc_wire::Incoming<'_>,
        idl_buffer: &mut [u8],
    ) -> ::core::result::Result<::ipc_wire::Dispatched, ::ipc_wire::LinkError> {
        let idl_raw: raw::LaterRequest = ::ipc_wire::codec::request(idl_incoming, 0)?;
        let value = ::ipc_wire::codec::value(&idl_raw.value)?;
        Ok(
            match idl_server.later(idl_incoming.from, value) {
                Ok(result) => {
                    ::ipc_wire::Dispatched::Reply(reply::later(&result, idl_buffer))
                }
                Err(refusal) => {
                    ::ipc_wire::codec::refuse(
                        refusal,
                        idl_incoming.from.token,
                        idl_buffer,
                    )
                }
            },
        )
    }
    /// Encoding of answers, for servers that answer later.
    pub mod reply {
        #[allow(unused_imports)]
        use super::*;
        /// An error.
        pub fn error(error: Error, buffer: &mut [u8]) -> ::ipc_wire::Reply {
            ::ipc_wire::codec::error_reply(error.into(), buffer)
        }
        /// The result of `nothing`.
        pub fn nothing(_result: &(), buffer: &mut [u8]) -> ::ipc_wire::Reply {
            let idl_raw = [0u8; 0];
            ::ipc_wire::codec::ok_reply(&idl_raw, &[], buffer)
        }
        /// The result of `integers`.
        pub fn integers(
            result: &IntegersResult,
            buffer: &mut [u8],
        ) -> ::ipc_wire::Reply {
            let idl_raw = raw::IntegersReply {
                a: ::ipc_wire::Wire::to_raw(&result.a),
                b: ::ipc_wire::Wire::to_raw(&result.b),
                c: ::ipc_wire::Wire::to_raw(&result.c),
                d: ::ipc_wire::Wire::to_raw(&result.d),
                e: ::ipc_wire::Wire::to_raw(&result.e),
                f: ::ipc_wire::Wire::to_raw(&result.f),
                g: ::ipc_wire::Wire::to_raw(&result.g),
                h: ::ipc_wire::Wire::to_raw(&result.h),
                i: ::ipc_wire::Wire::to_raw(&result.i),
                j: ::ipc_wire::Wire::to_raw(&result.j),
                _pad4: [::ipc_wire::Zero::Zero; _],
            };
            ::ipc_wire::codec::ok_reply(&idl_raw, &[], buffer)
        }
        /// The result of `outer`.
        pub fn outer(result: &Outer, buffer: &mut [u8]) -> ::ipc_wire::Reply {
            let idl_raw = raw::OuterReply {
                value: ::ipc_wire::Wire::to_raw(result),
            };
            ::ipc_wire::codec::ok_reply(&idl_raw, &[], buffer)
        }
        /// The result of `text`.
        pub fn text(result: &TextResult, buffer: &mut [u8]) -> ::ipc_wire::Reply {
            let idl_raw = raw::TextReply {
                name: ::ipc_wire::Wire::to_raw(&result.name),
                data: ::ipc_wire::Wire::to_raw(&result.data),
                _pad2: [::ipc_wire::Zero::Zero; _],
            };
            ::ipc_wire::codec::ok_reply(&idl_raw, &[], buffer)
        }
        /// The result of `arrays`.
        pub fn arrays(result: &[Level; 3], buffer: &mut [u8]) -> ::ipc_wire::Reply {
            let idl_raw = raw::ArraysReply {
                value: ::ipc_wire::Wire::to_raw(result),
                _pad1: [::ipc_wire::Zero::Zero; _],
            };
            ::ipc_wire::codec::ok_reply(&idl_raw, &[], buffer)
        }
        /// The result of `copy`.
        pub fn copy(result: &u32, buffer: &mut [u8]) -> ::ipc_wire::Reply {
            let idl_raw = raw::CopyReply {
                value: ::ipc_wire::Wire::to_raw(result),
                _pad1: [::ipc_wire::Zero::Zero; _],
            };
            ::ipc_wire::codec::ok_reply(&idl_raw, &[], buffer)
        }
        /// The result of `caps`.
        pub fn caps(result: &CapsResult, buffer: &mut [u8]) -> ::ipc_wire::Reply {
            let idl_raw = raw::CapsReply {
                number: ::ipc_wire::Wire::to_raw(&result.number),
                _pad1: [::ipc_wire::Zero::Zero; _],
            };
            ::ipc_wire::codec::ok_reply(&idl_raw, &[result.back.raw()], buffer)
        }
        /// The result of `one`.
        pub fn one(
            result: &::ipc_wire::Cap<super::super::every::Protocol>,
            buffer: &mut [u8],
        ) -> ::ipc_wire::Reply {
            let idl_raw = [0u8; 0];
            ::ipc_wire::codec::ok_reply(&idl_raw, &[result.raw()], buffer)
        }
        /// The result of `later`.
        pub fn later(result: &u64, buffer: &mut [u8]) -> ::ipc_wire::Reply {
            let idl_raw = raw::LaterReply {
                value: ::ipc_wire::Wire::to_raw(result),
            };
            ::ipc_wire::codec::ok_reply(&idl_raw, &[], buffer)
        }
    }
    /// Payload layouts: what goes through message registers, padding included.
    pub mod raw {
        /// Layout, 12 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct Inner {
            /// At byte 0.
            pub small: u8,
            /// Zero.
            pub _pad1: [::ipc_wire::Zero; 3],
            /// At byte 4.
            pub big: u32,
            /// At byte 8.
            pub level: super::Level,
            /// Zero.
            pub _pad3: [::ipc_wire::Zero; 3],
        }
        const _: () = assert!(::core::mem::size_of:: < Inner > () == 12);
        /// Layout, 80 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct Outer {
            /// At byte 0.
            pub inner: [Inner; 2],
            /// At byte 24.
            pub name: ::ipc_wire::Bytes<12>,
            /// Zero.
            pub _pad2: [::ipc_wire::Zero; 10],
            /// At byte 48.
            pub huge: u128,
            /// At byte 64.
            pub flag: bool,
            /// At byte 65.
            pub names: [::ipc_wire::Bytes<3>; 2],
            /// Zero.
            pub _pad5: [::ipc_wire::Zero; 5],
        }
        const _: () = assert!(::core::mem::size_of:: < Outer > () == 80);
        /// Layout, 64 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct IntegersRequest {
            /// At byte 0.
            pub a: u8,
            /// At byte 1.
            pub b: i8,
            /// At byte 2.
            pub c: u16,
            /// At byte 4.
            pub d: i16,
            /// Zero.
            pub _pad4: [::ipc_wire::Zero; 2],
            /// At byte 8.
            pub e: u32,
            /// At byte 12.
            pub f: i32,
            /// At byte 16.
            pub g: u64,
            /// At byte 24.
            pub h: i64,
            /// At byte 32.
            pub i: u128,
            /// At byte 48.
            pub j: i128,
        }
        const _: () = assert!(::core::mem::size_of:: < IntegersRequest > () == 64);
        /// Layout, 64 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct IntegersReply {
            /// At byte 0.
            pub a: u8,
            /// At byte 1.
            pub b: i8,
            /// At byte 2.
            pub c: u16,
            /// At byte 4.
            pub d: i16,
            /// Zero.
            pub _pad4: [::ipc_wire::Zero; 2],
            /// At byte 8.
            pub e: u32,
            /// At byte 12.
            pub f: i32,
            /// At byte 16.
            pub g: u64,
            /// At byte 24.
            pub h: i64,
            /// At byte 32.
            pub i: u128,
            /// At byte 48.
            pub j: i128,
        }
        const _: () = assert!(::core::mem::size_of:: < IntegersReply > () == 64);
        /// Layout, 80 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct OuterRequest {
            /// At byte 0.
            pub value: Outer,
        }
        const _: () = assert!(::core::mem::size_of:: < OuterRequest > () == 80);
        /// Layout, 80 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct OuterReply {
            /// At byte 0.
            pub value: Outer,
        }
        const _: () = assert!(::core::mem::size_of:: < OuterReply > () == 80);
        /// Layout, 24 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct TextRequest {
            /// At byte 0.
            pub name: ::ipc_wire::Bytes<12>,
            /// At byte 14.
            pub data: ::ipc_wire::Bytes<5>,
            /// Zero.
            pub _pad2: [::ipc_wire::Zero; 3],
        }
        const _: () = assert!(::core::mem::size_of:: < TextRequest > () == 24);
        /// Layout, 24 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct TextReply {
            /// At byte 0.
            pub name: ::ipc_wire::Bytes<12>,
            /// At byte 14.
            pub data: ::ipc_wire::Bytes<5>,
            /// Zero.
            pub _pad2: [::ipc_wire::Zero; 3],
        }
        const _: () = assert!(::core::mem::size_of:: < TextReply > () == 24);
        /// Layout, 24 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct ArraysRequest {
            /// At byte 0.
            pub octets: [u8; 6],
            /// At byte 6.
            pub levels: [super::Level; 3],
            /// Zero.
            pub _pad2: [::ipc_wire::Zero; 3],
            /// At byte 12.
            pub wide: super::Wide,
            /// At byte 16.
            pub on: bool,
            /// Zero.
            pub _pad4: [::ipc_wire::Zero; 7],
        }
        const _: () = assert!(::core::mem::size_of:: < ArraysRequest > () == 24);
        /// Layout, 8 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct ArraysReply {
            /// At byte 0.
            pub value: [super::Level; 3],
            /// Zero.
            pub _pad1: [::ipc_wire::Zero; 5],
        }
        const _: () = assert!(::core::mem::size_of:: < ArraysReply > () == 8);
        /// Layout, 24 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct CopyRequest {
            /// At byte 0.
            pub to: ::ipc_wire::WindowRef,
            /// At byte 8.
            pub key: u8,
            /// Zero.
            pub _pad2: [::ipc_wire::Zero; 3],
            /// At byte 12.
            pub from: ::ipc_wire::WindowRef,
            /// Zero.
            pub _pad3: [::ipc_wire::Zero; 4],
        }
        const _: () = assert!(::core::mem::size_of:: < CopyRequest > () == 24);
        /// Layout, 8 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct CopyReply {
            /// At byte 0.
            pub value: u32,
            /// Zero.
            pub _pad1: [::ipc_wire::Zero; 4],
        }
        const _: () = assert!(::core::mem::size_of:: < CopyReply > () == 8);
        /// Layout, 8 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct CapsRequest {
            /// At byte 0.
            pub number: u32,
            /// Zero.
            pub _pad1: [::ipc_wire::Zero; 4],
        }
        const _: () = assert!(::core::mem::size_of:: < CapsRequest > () == 8);
        /// Layout, 8 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct CapsReply {
            /// At byte 0.
            pub number: u32,
            /// Zero.
            pub _pad1: [::ipc_wire::Zero; 4],
        }
        const _: () = assert!(::core::mem::size_of:: < CapsReply > () == 8);
        /// Layout, 8 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct LaterRequest {
            /// At byte 0.
            pub value: u64,
        }
        const _: () = assert!(::core::mem::size_of:: < LaterRequest > () == 8);
        /// Layout, 8 bytes.
        #[derive(Clone, Copy, Debug)]
        #[derive(
            ::zerocopy::TryFromBytes,
            ::zerocopy::IntoBytes,
            ::zerocopy::Immutable,
            ::zerocopy::KnownLayout
        )]
        #[repr(C)]
        pub struct LaterReply {
            /// At byte 0.
            pub value: u64,
        }
        const _: () = assert!(::core::mem::size_of:: < LaterReply > () == 8);
    }
    /// The interface as data.
    pub static INTERFACE: ::ipc_wire::Interface = ::ipc_wire::Interface {
        name: "every",
        major: 2,
        minor: 3,
        id: ID,
        local: true,
        methods: &[
            ::ipc_wire::Method {
                ordinal: 1,
                name: "nothing",
                idempotent: false,
                request: ::ipc_wire::desc::Shape {
                    size: 0,
                    caps: &[],
                    fields: &[],
                },
                reply: ::ipc_wire::desc::Shape {
                    size: 0,
                    caps: &[],
                    fields: &[],
                },
            },
            ::ipc_wire::Method {
                ordinal: 2,
                name: "integers",
                idempotent: true,
                request: ::ipc_wire::desc::Shape {
                    size: 64,
                    caps: &[],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "a",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Unsigned(1),
                        },
                        ::ipc_wire::desc::Field {
                            name: "b",
                            offset: 1,
                            ty: ::ipc_wire::desc::Type::Signed(1),
                        },
                        ::ipc_wire::desc::Field {
                            name: "c",
                            offset: 2,
                            ty: ::ipc_wire::desc::Type::Unsigned(2),
                        },
                        ::ipc_wire::desc::Field {
                            name: "d",
                            offset: 4,
                            ty: ::ipc_wire::desc::Type::Signed(2),
                        },
                        ::ipc_wire::desc::Field {
                            name: "e",
                            offset: 8,
                            ty: ::ipc_wire::desc::Type::Unsigned(4),
                        },
                        ::ipc_wire::desc::Field {
                            name: "f",
                            offset: 12,
                            ty: ::ipc_wire::desc::Type::Signed(4),
                        },
                        ::ipc_wire::desc::Field {
                            name: "g",
                            offset: 16,
                            ty: ::ipc_wire::desc::Type::Unsigned(8),
                        },
                        ::ipc_wire::desc::Field {
                            name: "h",
                            offset: 24,
                            ty: ::ipc_wire::desc::Type::Signed(8),
                        },
                        ::ipc_wire::desc::Field {
                            name: "i",
                            offset: 32,
                            ty: ::ipc_wire::desc::Type::Unsigned(16),
                        },
                        ::ipc_wire::desc::Field {
                            name: "j",
                            offset: 48,
                            ty: ::ipc_wire::desc::Type::Signed(16),
                        },
                    ],
                },
                reply: ::ipc_wire::desc::Shape {
                    size: 64,
                    caps: &[],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "a",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Unsigned(1),
                        },
                        ::ipc_wire::desc::Field {
                            name: "b",
                            offset: 1,
                            ty: ::ipc_wire::desc::Type::Signed(1),
                        },
                        ::ipc_wire::desc::Field {
                            name: "c",
                            offset: 2,
                            ty: ::ipc_wire::desc::Type::Unsigned(2),
                        },
                        ::ipc_wire::desc::Field {
                            name: "d",
                            offset: 4,
                            ty: ::ipc_wire::desc::Type::Signed(2),
                        },
                        ::ipc_wire::desc::Field {
                            name: "e",
                            offset: 8,
                            ty: ::ipc_wire::desc::Type::Unsigned(4),
                        },
                        ::ipc_wire::desc::Field {
                            name: "f",
                            offset: 12,
                            ty: ::ipc_wire::desc::Type::Signed(4),
                        },
                        ::ipc_wire::desc::Field {
                            name: "g",
                            offset: 16,
                            ty: ::ipc_wire::desc::Type::Unsigned(8),
                        },
                        ::ipc_wire::desc::Field {
                            name: "h",
                            offset: 24,
                            ty: ::ipc_wire::desc::Type::Signed(8),
                        },
                        ::ipc_wire::desc::Field {
                            name: "i",
                            offset: 32,
                            ty: ::ipc_wire::desc::Type::Unsigned(16),
                        },
                        ::ipc_wire::desc::Field {
                            name: "j",
                            offset: 48,
                            ty: ::ipc_wire::desc::Type::Signed(16),
                        },
                    ],
                },
            },
            ::ipc_wire::Method {
                ordinal: 3,
                name: "outer",
                idempotent: false,
                request: ::ipc_wire::desc::Shape {
                    size: 80,
                    caps: &[],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "value",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Struct {
                                name: "Outer",
                                size: 80,
                                fields: &[
                                    ::ipc_wire::desc::Field {
                                        name: "inner",
                                        offset: 0,
                                        ty: ::ipc_wire::desc::Type::Array(
                                            &::ipc_wire::desc::Type::Struct {
                                                name: "Inner",
                                                size: 12,
                                                fields: &[
                                                    ::ipc_wire::desc::Field {
                                                        name: "small",
                                                        offset: 0,
                                                        ty: ::ipc_wire::desc::Type::Unsigned(1),
                                                    },
                                                    ::ipc_wire::desc::Field {
                                                        name: "big",
                                                        offset: 4,
                                                        ty: ::ipc_wire::desc::Type::Unsigned(4),
                                                    },
                                                    ::ipc_wire::desc::Field {
                                                        name: "level",
                                                        offset: 8,
                                                        ty: ::ipc_wire::desc::Type::Enum {
                                                            name: "Level",
                                                            size: 1,
                                                            values: &[("Low", 0), ("High", 7)],
                                                        },
                                                    },
                                                ],
                                            },
                                            2,
                                        ),
                                    },
                                    ::ipc_wire::desc::Field {
                                        name: "name",
                                        offset: 24,
                                        ty: ::ipc_wire::desc::Type::Str(12),
                                    },
                                    ::ipc_wire::desc::Field {
                                        name: "huge",
                                        offset: 48,
                                        ty: ::ipc_wire::desc::Type::Unsigned(16),
                                    },
                                    ::ipc_wire::desc::Field {
                                        name: "flag",
                                        offset: 64,
                                        ty: ::ipc_wire::desc::Type::Bool,
                                    },
                                    ::ipc_wire::desc::Field {
                                        name: "names",
                                        offset: 65,
                                        ty: ::ipc_wire::desc::Type::Array(
                                            &::ipc_wire::desc::Type::Str(3),
                                            2,
                                        ),
                                    },
                                ],
                            },
                        },
                    ],
                },
                reply: ::ipc_wire::desc::Shape {
                    size: 80,
                    caps: &[],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "value",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Struct {
                                name: "Outer",
                                size: 80,
                                fields: &[
                                    ::ipc_wire::desc::Field {
                                        name: "inner",
                                        offset: 0,
                                        ty: ::ipc_wire::desc::Type::Array(
                                            &::ipc_wire::desc::Type::Struct {
                                                name: "Inner",
                                                size: 12,
                                                fields: &[
                                                    ::ipc_wire::desc::Field {
                                                        name: "small",
                                                        offset: 0,
                                                        ty: ::ipc_wire::desc::Type::Unsigned(1),
                                                    },
                                                    ::ipc_wire::desc::Field {
                                                        name: "big",
                                                        offset: 4,
                                                        ty: ::ipc_wire::desc::Type::Unsigned(4),
                                                    },
                                                    ::ipc_wire::desc::Field {
                                                        name: "level",
                                                        offset: 8,
                                                        ty: ::ipc_wire::desc::Type::Enum {
                                                            name: "Level",
                                                            size: 1,
                                                            values: &[("Low", 0), ("High", 7)],
                                                        },
                                                    },
                                                ],
                                            },
                                            2,
                                        ),
                                    },
                                    ::ipc_wire::desc::Field {
                                        name: "name",
                                        offset: 24,
                                        ty: ::ipc_wire::desc::Type::Str(12),
                                    },
                                    ::ipc_wire::desc::Field {
                                        name: "huge",
                                        offset: 48,
                                        ty: ::ipc_wire::desc::Type::Unsigned(16),
                                    },
                                    ::ipc_wire::desc::Field {
                                        name: "flag",
                                        offset: 64,
                                        ty: ::ipc_wire::desc::Type::Bool,
                                    },
                                    ::ipc_wire::desc::Field {
                                        name: "names",
                                        offset: 65,
                                        ty: ::ipc_wire::desc::Type::Array(
                                            &::ipc_wire::desc::Type::Str(3),
                                            2,
                                        ),
                                    },
                                ],
                            },
                        },
                    ],
                },
            },
            ::ipc_wire::Method {
                ordinal: 4,
                name: "text",
                idempotent: false,
                request: ::ipc_wire::desc::Shape {
                    size: 24,
                    caps: &[],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "name",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Str(12),
                        },
                        ::ipc_wire::desc::Field {
                            name: "data",
                            offset: 14,
                            ty: ::ipc_wire::desc::Type::Bytes(5),
                        },
                    ],
                },
                reply: ::ipc_wire::desc::Shape {
                    size: 24,
                    caps: &[],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "name",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Str(12),
                        },
                        ::ipc_wire::desc::Field {
                            name: "data",
                            offset: 14,
                            ty: ::ipc_wire::desc::Type::Bytes(5),
                        },
                    ],
                },
            },
            ::ipc_wire::Method {
                ordinal: 5,
                name: "arrays",
                idempotent: false,
                request: ::ipc_wire::desc::Shape {
                    size: 24,
                    caps: &[],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "octets",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Array(
                                &::ipc_wire::desc::Type::Unsigned(1),
                                6,
                            ),
                        },
                        ::ipc_wire::desc::Field {
                            name: "levels",
                            offset: 6,
                            ty: ::ipc_wire::desc::Type::Array(
                                &::ipc_wire::desc::Type::Enum {
                                    name: "Level",
                                    size: 1,
                                    values: &[("Low", 0), ("High", 7)],
                                },
                                3,
                            ),
                        },
                        ::ipc_wire::desc::Field {
                            name: "wide",
                            offset: 12,
                            ty: ::ipc_wire::desc::Type::Enum {
                                name: "Wide",
                                size: 4,
                                values: &[("First", 1), ("Last", 4294967295)],
                            },
                        },
                        ::ipc_wire::desc::Field {
                            name: "on",
                            offset: 16,
                            ty: ::ipc_wire::desc::Type::Bool,
                        },
                    ],
                },
                reply: ::ipc_wire::desc::Shape {
                    size: 8,
                    caps: &[],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "value",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Array(
                                &::ipc_wire::desc::Type::Enum {
                                    name: "Level",
                                    size: 1,
                                    values: &[("Low", 0), ("High", 7)],
                                },
                                3,
                            ),
                        },
                    ],
                },
            },
            ::ipc_wire::Method {
                ordinal: 6,
                name: "copy",
                idempotent: true,
                request: ::ipc_wire::desc::Shape {
                    size: 24,
                    caps: &[],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "to",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Window(
                                ::ipc_wire::desc::Direction::Out,
                            ),
                        },
                        ::ipc_wire::desc::Field {
                            name: "key",
                            offset: 8,
                            ty: ::ipc_wire::desc::Type::Unsigned(1),
                        },
                        ::ipc_wire::desc::Field {
                            name: "from",
                            offset: 12,
                            ty: ::ipc_wire::desc::Type::Window(
                                ::ipc_wire::desc::Direction::In,
                            ),
                        },
                    ],
                },
                reply: ::ipc_wire::desc::Shape {
                    size: 8,
                    caps: &[],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "value",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Unsigned(4),
                        },
                    ],
                },
            },
            ::ipc_wire::Method {
                ordinal: 7,
                name: "caps",
                idempotent: false,
                request: ::ipc_wire::desc::Shape {
                    size: 8,
                    caps: &[
                        ::ipc_wire::desc::CapField {
                            name: "first",
                            what: "every",
                        },
                        ::ipc_wire::desc::CapField {
                            name: "second",
                            what: "other",
                        },
                        ::ipc_wire::desc::CapField {
                            name: "third",
                            what: "frame",
                        },
                    ],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "number",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Unsigned(4),
                        },
                    ],
                },
                reply: ::ipc_wire::desc::Shape {
                    size: 8,
                    caps: &[
                        ::ipc_wire::desc::CapField {
                            name: "back",
                            what: "any",
                        },
                    ],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "number",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Unsigned(4),
                        },
                    ],
                },
            },
            ::ipc_wire::Method {
                ordinal: 8,
                name: "one",
                idempotent: false,
                request: ::ipc_wire::desc::Shape {
                    size: 0,
                    caps: &[
                        ::ipc_wire::desc::CapField {
                            name: "object",
                            what: "any",
                        },
                    ],
                    fields: &[],
                },
                reply: ::ipc_wire::desc::Shape {
                    size: 0,
                    caps: &[
                        ::ipc_wire::desc::CapField {
                            name: "value",
                            what: "every",
                        },
                    ],
                    fields: &[],
                },
            },
            ::ipc_wire::Method {
                ordinal: 4095,
                name: "later",
                idempotent: false,
                request: ::ipc_wire::desc::Shape {
                    size: 8,
                    caps: &[],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "value",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Unsigned(8),
                        },
                    ],
                },
                reply: ::ipc_wire::desc::Shape {
                    size: 8,
                    caps: &[],
                    fields: &[
                        ::ipc_wire::desc::Field {
                            name: "value",
                            offset: 0,
                            ty: ::ipc_wire::desc::Type::Unsigned(8),
                        },
                    ],
                },
            },
        ],
        errors: &[("Missing", 1), ("TooSlow", 300)],
    };
}
/// A second interface, so that capabilities have something to name.
#[allow(
    clippy::too_many_arguments,
    clippy::let_unit_value,
    clippy::large_types_passed_by_value
)]
pub mod other {
    /// The 40-bit id: hash of name and major version.
    pub const ID: u64 = 586425357331;
    /// Marks capabilities to this interface.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Protocol {}
    /// Request labels.
    pub mod label {
        /// Of `ping`.
        pub const PING: u64 = ::ipc_wire::Label::new(super::ID, 1).bits();
    }
    /// Why a server refuses.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Error {}
    impl Error {
        /// What it means, in words for a log or a terminal.
        pub const fn meaning(self) -> &'static str {
            match self {}
        }
    }
    impl ::core::fmt::Display for Error {
        fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
            f.write_str(self.meaning())
        }
    }
    impl ::core::error::Error for Error {}
    impl ::core::convert::From<Error> for u16 {
        fn from(error: Error) -> u16 {
            match error {}
        }
    }
    impl ::core::convert::TryFrom<u16> for Error {
        /// The unknown code.
        type Error = u16;
        fn try_from(code: u16) -> ::core::result::Result<Self, u16> {
            Err(code)
        }
    }
    impl ::core::convert::From<Error> for ::ipc_wire::Refusal<Error> {
        fn from(error: Error) -> Self {
            Self::Error(error)
        }
    }
    /// Calls a server through a transport; does not know whether the server is local or on another node.
    #[derive(Clone, Copy, Debug)]
    pub struct Client<T> {
        idl_transport: T,
    }
    impl<T: ::ipc_wire::Transport> Client<T> {
        /// A client that calls through `transport`.
        pub const fn new(transport: T) -> Self {
            Self { idl_transport: transport }
        }
        /// The transport.
        pub fn transport(&mut self) -> &mut T {
            &mut self.idl_transport
        }
        /// Gives the transport back.
        pub fn into_transport(self) -> T {
            self.idl_transport
        }
        /// Nothing.
        pub fn ping(
            &mut self,
        ) -> ::core::result::Result<(), ::ipc_wire::CallError<Error>> {
            let mut idl_buffer = [0u8; ::ipc_wire::codec::reply_buffer(0)];
            let idl_call = ::ipc_wire::Request {
                label: label::PING,
                bytes: &[],
                caps: &[],
            };
            let idl_reply = self.idl_transport.call(idl_call, &mut idl_buffer)?;
            let _ = ::ipc_wire::codec::sort_reply::<
                Error,
            >(&idl_reply, &idl_buffer, 0, 0)?;
            Ok(())
        }
    }
    /// What a server of this interface does. Arguments are checked; the first names the caller and the call.
    pub trait Server {
        /// Nothing.
        fn ping(&mut self, caller: ::ipc_wire::Caller) -> ::ipc_wire::Answer<(), Error>;
    }
    /// Checks a call and hands it to `server`. The reply's payload goes to the start of `buffer`, which has
    /// [`ipc_wire::MAX_PAYLOAD`] bytes. Anything malformed is answered here and never reaches the server.
    pub fn dispatch<S: Server + ?Sized>(
        server: &mut S,
        incoming: &::ipc_wire::Incoming<'_>,
        buffer: &mut [u8],
    ) -> ::ipc_wire::Dispatched {
        let answer = match incoming.label {
            label::PING => idl_on_ping(server, incoming, buffer),
            _ => Err(::ipc_wire::LinkError::NoMethod),
        };
        answer
            .unwrap_or_else(|error| ::ipc_wire::Dispatched::Reply(
                ::ipc_wire::Reply::link_error(error),
            ))
    }
    fn idl_on_ping<S: Server + ?Sized>(
        idl_server: &mut S,
        idl_incoming: &::ipc_wire::Incoming<'_>,
        idl_buffer: &mut [u8],
    ) -> ::core::result::Result<::ipc_wire::Dispatched, ::ipc_wire::LinkError> {
        ::ipc_wire::codec::check_empty(idl_incoming, 0)?;
        Ok(
            match idl_server.ping(idl_incoming.from) {
                Ok(result) => {
                    ::ipc_wire::Dispatched::Reply(reply::ping(&result, idl_buffer))
                }
                Err(refusal) => {
                    ::ipc_wire::codec::refuse(
                        refusal,
                        idl_incoming.from.token,
                        idl_buffer,
                    )
                }
            },
        )
    }
    /// Encoding of answers, for servers that answer later.
    pub mod reply {
        #[allow(unused_imports)]
        use super::*;
        /// An error.
        pub fn error(error: Error, buffer: &mut [u8]) -> ::ipc_wire::Reply {
            ::ipc_wire::codec::error_reply(error.into(), buffer)
        }
        /// The result of `ping`.
        pub fn ping(_result: &(), buffer: &mut [u8]) -> ::ipc_wire::Reply {
            let idl_raw = [0u8; 0];
            ::ipc_wire::codec::ok_reply(&idl_raw, &[], buffer)
        }
    }
    /// Payload layouts: what goes through message registers, padding included.
    pub mod raw {}
    /// The interface as data.
    pub static INTERFACE: ::ipc_wire::Interface = ::ipc_wire::Interface {
        name: "other",
        major: 1,
        minor: 0,
        id: ID,
        local: false,
        methods: &[
            ::ipc_wire::Method {
                ordinal: 1,
                name: "ping",
                idempotent: true,
                request: ::ipc_wire::desc::Shape {
                    size: 0,
                    caps: &[],
                    fields: &[],
                },
                reply: ::ipc_wire::desc::Shape {
                    size: 0,
                    caps: &[],
                    fields: &[],
                },
            },
        ],
        errors: &[],
    };
}
/// Every interface, by name.
pub static INTERFACES: &[&::ipc_wire::Interface] = &[
    &every::INTERFACE,
    &other::INTERFACE,
];
