//! Bookkeeping of reply objects: which are free, which hold a caller that is still to be answered.

/// Most reply objects of a server.
pub const MAX_REPLIES: usize = 256;

/// Names one unanswered call: reply object and generation, so that a token used twice is noticed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Token(u64);

impl Token {
    /// As a word, for `ipc_wire::Caller::token`.
    pub const fn word(self) -> u64 {
        self.0
    }

    /// From the word; validity shows when it is used.
    pub const fn from_word(word: u64) -> Token {
        Token(word)
    }

    fn new(index: usize, generation: u32) -> Token {
        Token(((generation as u64) << 16) | index as u64)
    }

    /// Index of the reply object.
    fn index(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    fn generation(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// Free and used reply objects.
pub struct Replies {
    count: usize,
    generation: [u32; MAX_REPLIES],
    held: [bool; MAX_REPLIES],
    /// Indices of free objects, a stack: the same one is reused while calls are answered at once.
    free: [u8; MAX_REPLIES],
    free_len: usize,
}

impl Replies {
    /// `count` free reply objects (at most [`MAX_REPLIES`]).
    pub fn new(count: usize) -> Replies {
        let count = count.min(MAX_REPLIES);
        let mut free = [0; MAX_REPLIES];
        (0..count).for_each(|i| free[count - 1 - i] = i as u8);
        Replies { count, generation: [0; MAX_REPLIES], held: [false; MAX_REPLIES], free, free_len: count }
    }

    /// The object to receive with; `None` if all hold callers.
    pub fn peek(&self) -> Option<usize> {
        self.free_len.checked_sub(1).map(|i| self.free[i] as usize)
    }

    /// The object from [`peek`](Self::peek) now holds a caller.
    pub fn hold(&mut self) -> Option<Token> {
        let index = self.peek()?;
        self.free_len -= 1;
        self.held[index] = true;
        self.generation[index] = self.generation[index].wrapping_add(1);
        Some(Token::new(index, self.generation[index]))
    }

    /// Ends a call; gives the object's index, or `None` if the token is not that of an unanswered call.
    pub fn take(&mut self, token: Token) -> Option<usize> {
        let index = token.index();
        if index >= self.count || !self.held[index] || self.generation[index] != token.generation() {
            return None;
        }
        self.held[index] = false;
        self.free[self.free_len] = index as u8;
        self.free_len += 1;
        Some(index)
    }

    /// Calls that are unanswered now.
    pub fn outstanding(&self) -> usize {
        self.count - self.free_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deferred_calls_are_answered_once_in_any_order() {
        let mut replies = Replies::new(3);
        let tokens: Vec<Token> = std::iter::from_fn(|| replies.hold()).collect();
        assert_eq!((tokens.len(), replies.outstanding(), replies.peek()), (3, 3, None));
        let middle = replies.take(tokens[1]).unwrap();
        assert_eq!(replies.take(tokens[1]), None, "answered twice");
        let again = replies.hold().unwrap();
        assert_eq!(replies.take(Token::from_word(tokens[1].word())), None, "an old token of the same object");
        assert_eq!(replies.take(again), Some(middle));
        assert!(replies.take(tokens[2]).is_some() && replies.take(tokens[0]).is_some());
        assert_eq!(replies.outstanding(), 0);
        assert_eq!(replies.take(Token::from_word(u64::MAX)), None);
    }
}
