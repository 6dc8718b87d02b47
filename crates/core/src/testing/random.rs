//! Random numbers that come again with their seed (SplitMix64, Steele, Lea and Flood 2014). Never for secrets.

/// A stream of numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }
    /// The next number.
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Below `most`; 0 if that is 0.
    pub const fn below(&mut self, most: u64) -> u64 {
        if most == 0 { 0 } else { self.number() % most }
    }
    /// True once in `of` times.
    pub const fn once_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }
    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len() as u64) as usize)
    }
    /// Takes one of them out.
    pub fn take<T>(&mut self, from: &mut Vec<T>) -> Option<T> {
        let at = self.below(from.len() as u64) as usize;
        (at < from.len()).then(|| from.swap_remove(at))
    }
    /// 16 bytes.
    pub fn bytes(&mut self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (slot, byte) in
            bytes.iter_mut().zip(self.number().to_be_bytes().into_iter().chain(self.number().to_be_bytes()))
        {
            *slot = byte;
        }
        bytes
    }
}
