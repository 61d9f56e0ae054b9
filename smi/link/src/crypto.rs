//! Keys: the random generator, the handshake, and the sealing of frames.
//!
//! Handshake: `Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s` with the cluster key as pre-shared key. Both messages are
//! authenticated by the key (a first message under another key is recognised before any Diffie-Hellman work is done),
//! and the session keys are ephemeral: whoever learns the cluster key later cannot read what was recorded. The prologue
//! binds protocol version, cluster and both node ids, so a message cannot be turned round or moved to another pair. Within the
//! cluster every node holds the cluster key and is trusted not to pose as another.
//!
//! Frames: ChaCha20-Poly1305, one key a direction, the frame counter as nonce, the link header as associated data.

use alloc::boxed::Box;
use alloc::vec::Vec;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use smi_cluster::NodeId;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};

use crate::wire::{HEADER, TAG};

const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

/// Bytes of what each side tells the other inside its handshake message.
const HELLO: usize = 20;
/// Bytes of either handshake message: ephemeral key, sealed hello.
pub(crate) const HANDSHAKE_LEN: usize = 32 + HELLO + TAG;

/// A random generator that is a function of its seed: the ChaCha20 key stream, with the key replaced at every draw, so that
/// a later look at its state tells nothing about earlier output.
pub(crate) struct Drbg {
    key: [u8; 32],
}

impl Drbg {
    pub fn new(seed: [u8; 32]) -> Drbg {
        Drbg { key: seed }
    }

    pub fn fill(&mut self, dest: &mut [u8]) {
        for out in dest.chunks_mut(32) {
            let mut stream = [0u8; 64];
            let cipher = ChaCha20Poly1305::new(&self.key.into());
            // Sealing zeros yields the key stream. 64 bytes are never too long, so this cannot fail.
            let tag = cipher.encrypt_inout_detached(&Nonce::default(), &[], stream.as_mut_slice().into());
            debug_assert!(tag.is_ok());
            self.key.copy_from_slice(&stream[..32]);
            out.copy_from_slice(&stream[32..32 + out.len()]);
        }
    }

    pub fn fork(&mut self) -> Drbg {
        let mut seed = [0; 32];
        self.fill(&mut seed);
        Drbg::new(seed)
    }

    pub fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }
}

impl Random for Drbg {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        self.fill(dest);
        Ok(())
    }
}

/// Gives Noise our generator instead of the operating system's.
struct Resolver {
    seed: [u8; 32],
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Drbg::new(self.seed)))
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

/// What each side tells the other inside the handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hello {
    /// The sender's incarnation: raised at each of its boots.
    pub incarnation: u64,
    /// The session number that frames to the sender must carry.
    pub session: u32,
    /// The sender's membership epoch.
    pub epoch: u64,
}

impl Hello {
    fn encode(self) -> [u8; HELLO] {
        let mut out = [0; HELLO];
        out[..8].copy_from_slice(&self.incarnation.to_le_bytes());
        out[8..12].copy_from_slice(&self.session.to_le_bytes());
        out[12..].copy_from_slice(&self.epoch.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Hello> {
        Some(Hello {
            incarnation: u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?),
            session: u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?),
            epoch: u64::from_le_bytes(bytes.get(12..HELLO)?.try_into().ok()?),
        })
    }
}

/// A handshake message did not authenticate: another cluster key, or bytes that someone changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NotAuthentic;

/// Who shakes hands, and with which key.
pub(crate) struct Parties<'a> {
    pub key: &'a [u8; 32],
    pub cluster: &'a [u8; 16],
    pub initiator: NodeId,
    pub responder: NodeId,
}

impl Parties<'_> {
    fn prologue(&self) -> Vec<u8> {
        let mut p = b"smi-link/1".to_vec();
        p.extend_from_slice(self.cluster);
        p.extend_from_slice(&self.initiator.0.to_le_bytes());
        p.extend_from_slice(&self.responder.0.to_le_bytes());
        p
    }

    fn build(
        &self,
        rng: &mut Drbg,
        finish: impl FnOnce(Builder<'_>) -> Result<HandshakeState, snow::Error>,
    ) -> Result<HandshakeState, snow::Error> {
        let prologue = self.prologue();
        let resolver = Box::new(Resolver { seed: rng.fork().key });
        finish(Builder::with_resolver(PATTERN.parse()?, resolver).psk(0, self.key)?.prologue(&prologue)?)
    }
}

/// An initiator that waits for the response.
pub(crate) struct Initiator {
    state: HandshakeState,
    /// The first message; sent again until the response comes.
    pub message: Vec<u8>,
}

impl Initiator {
    pub fn start(parties: &Parties<'_>, hello: Hello, rng: &mut Drbg) -> Result<Initiator, snow::Error> {
        let mut state = parties.build(rng, |b| b.build_initiator())?;
        let mut message = alloc::vec![0; HANDSHAKE_LEN];
        let n = state.write_message(&hello.encode(), &mut message)?;
        message.truncate(n);
        Ok(Initiator { state, message })
    }

    /// Reads the response. A bad one leaves the handshake as it was: the true response may still come.
    pub fn finish(&mut self, response: &[u8]) -> Result<(Hello, Keys), NotAuthentic> {
        let hello = read(&mut self.state, response)?;
        let (to_responder, to_initiator) = self.state.dangerously_get_raw_split();
        Ok((hello, Keys::new(to_responder, to_initiator)))
    }
}

/// A responder that has authenticated the first message and not answered yet.
pub(crate) struct Responder {
    state: HandshakeState,
    /// What the initiator says.
    pub peer: Hello,
}

impl Responder {
    /// Reads a first message; costs no Diffie-Hellman work.
    pub fn read(parties: &Parties<'_>, message: &[u8], rng: &mut Drbg) -> Result<Responder, NotAuthentic> {
        let mut state = parties.build(rng, |b| b.build_responder()).map_err(|_| NotAuthentic)?;
        let peer = read(&mut state, message)?;
        Ok(Responder { state, peer })
    }

    /// Answers: the response message and the session's keys.
    pub fn answer(mut self, hello: Hello) -> Result<(Vec<u8>, Keys), snow::Error> {
        let mut message = alloc::vec![0; HANDSHAKE_LEN];
        let n = self.state.write_message(&hello.encode(), &mut message)?;
        message.truncate(n);
        let (to_responder, to_initiator) = self.state.dangerously_get_raw_split();
        Ok((message, Keys::new(to_initiator, to_responder)))
    }
}

fn read(state: &mut HandshakeState, message: &[u8]) -> Result<Hello, NotAuthentic> {
    let mut payload = [0; HANDSHAKE_LEN];
    let n = state.read_message(message, &mut payload).map_err(|_| NotAuthentic)?;
    Hello::decode(payload.get(..n).ok_or(NotAuthentic)?).ok_or(NotAuthentic)
}

/// The two keys of a session.
pub(crate) struct Keys {
    seal: ChaCha20Poly1305,
    open: ChaCha20Poly1305,
}

impl Keys {
    fn new(seal: [u8; 32], open: [u8; 32]) -> Keys {
        Keys { seal: ChaCha20Poly1305::new(&seal.into()), open: ChaCha20Poly1305::new(&open.into()) }
    }

    /// Encrypts the body that stands behind the link header in `frame` and appends the tag. `body_at` is where the body
    /// starts; the header is the `HEADER` bytes before it.
    pub fn seal(&self, counter: u64, frame: &mut Vec<u8>, body_at: usize) {
        let (front, body) = frame.split_at_mut(body_at);
        let header = &front[front.len() - HEADER..];
        // Fails only for bodies of 256 GiB and more.
        if let Ok(tag) = self.seal.encrypt_inout_detached(&nonce(counter), header, body.into()) {
            frame.extend_from_slice(&tag);
        }
    }

    /// Checks and decrypts a body.
    pub fn open(&self, counter: u64, header: &[u8], body: &[u8]) -> Result<Vec<u8>, NotAuthentic> {
        let (sealed, tag) = body.split_at_checked(body.len().wrapping_sub(TAG)).ok_or(NotAuthentic)?;
        let tag: [u8; TAG] = tag.try_into().map_err(|_| NotAuthentic)?;
        let mut plain = sealed.to_vec();
        self.open
            .decrypt_inout_detached(&nonce(counter), header, plain.as_mut_slice().into(), &tag.into())
            .map_err(|_| NotAuthentic)?;
        Ok(plain)
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut n = [0; 12];
    n[4..].copy_from_slice(&counter.to_le_bytes());
    n.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parties(key: &[u8; 32]) -> Parties<'_> {
        Parties { key, cluster: &[7; 16], initiator: NodeId(1), responder: NodeId(2) }
    }

    fn hello(session: u32) -> Hello {
        Hello { incarnation: 3, session, epoch: 5 }
    }

    #[test]
    fn both_ends_get_matching_keys_and_each_others_hello() {
        let (key, mut rng) = ([1; 32], Drbg::new([2; 32]));
        let p = parties(&key);
        let mut i = Initiator::start(&p, hello(10), &mut rng).unwrap();
        assert_eq!(i.message.len(), HANDSHAKE_LEN);
        let r = Responder::read(&p, &i.message, &mut rng).ok().unwrap();
        assert_eq!(r.peer, hello(10));
        let (response, keys_r) = r.answer(hello(20)).unwrap();
        let mut forged = response.clone();
        forged[40] ^= 1;
        assert!(i.finish(&forged).is_err());
        let (peer, keys_i) = i.finish(&response).expect("a forged response must not spoil the true one");
        assert_eq!(peer, hello(20));

        let mut frame = vec![9; HEADER];
        frame.extend_from_slice(b"body");
        keys_i.seal(77, &mut frame, HEADER);
        assert_eq!(keys_r.open(77, &[9; HEADER], &frame[HEADER..]).unwrap(), b"body");
        assert!(keys_r.open(78, &[9; HEADER], &frame[HEADER..]).is_err());
        assert!(keys_r.open(77, &[8; HEADER], &frame[HEADER..]).is_err());
        assert!(keys_r.open(77, &[9; HEADER], b"short").is_err());
    }

    #[test]
    fn another_key_or_another_pair_is_not_authentic() {
        let mut rng = Drbg::new([2; 32]);
        let i = Initiator::start(&parties(&[1; 32]), hello(1), &mut rng).unwrap();
        assert!(Responder::read(&parties(&[3; 32]), &i.message, &mut rng).is_err());
        let moved = Parties { responder: NodeId(3), ..parties(&[1; 32]) };
        assert!(Responder::read(&moved, &i.message, &mut rng).is_err());
    }

    #[test]
    fn the_generator_is_a_function_of_its_seed_and_does_not_repeat() {
        let draw = |seed| {
            let (mut rng, mut out) = (Drbg::new([seed; 32]), [0; 100]);
            rng.fill(&mut out);
            out
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(draw(1)[..32], draw(1)[32..64]);
    }
}
