//! Times of answers in a few bytes: a bucket, then its count in sevens of bits, the lowest first.

use domain::Latency;

pub fn pack(latency: &Latency) -> Vec<u8> {
    let mut packed = Vec::new();
    for (bucket, mut count) in latency.buckets() {
        packed.push(bucket);
        loop {
            let low = (count & 0x7f) as u8;
            count >>= 7;
            if count == 0 {
                packed.push(low);
                break;
            }
            packed.push(low | 0x80);
        }
    }
    packed
}

/// What is no latency ends it: graphs, not money.
pub fn unpack(packed: &[u8]) -> Latency {
    let mut latency = Latency::default();
    let mut bytes = packed.iter().copied();
    while let Some(bucket) = bytes.next() {
        let (mut count, mut shift) = (0_u64, 0_u32);
        loop {
            let Some(byte) = bytes.next() else { return latency };
            if shift > 63 {
                return latency;
            }
            count |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        latency.add(bucket, count);
    }
    latency
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_read_again() {
        let mut latency = Latency::default();
        for (bucket, count) in [(0, 1), (3, 127), (4, 128), (60, 1 << 20), (85, u64::MAX)] {
            latency.add(bucket, count);
        }
        assert_eq!(unpack(&pack(&latency)), latency);
        assert_eq!(unpack(&pack(&Latency::default())), Latency::default());
        for bad in [&[1_u8][..], &[1, 0x80], &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(unpack(bad), Latency::default());
        }
    }
}
