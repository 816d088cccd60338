//! Blocks that were read, so that a reorganisation is noticed and tells how far to step back.

use super::{Block, REORG_WINDOW};

/// Some of the blocks read, oldest first; the last one is the cursor. Close together near the cursor, further apart behind it,
/// and the oldest is where everything before counts as final.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks(Vec<Block>);

impl Marks {
    /// From a record; `None` when that is out of order.
    pub(super) fn resume(blocks: Vec<Block>) -> Option<Self> {
        blocks.is_sorted_by(|a, b| a.number < b.number).then_some(Self(blocks))
    }

    pub(super) fn cursor(&self) -> Option<&Block> {
        self.0.last()
    }

    /// The newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Block> {
        self.0.iter().rev()
    }

    pub(super) fn as_slice(&self) -> &[Block] {
        &self.0
    }

    /// What was changed up to this block is not asked for again.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.0.first().map(|block| block.number)
    }

    /// Everything up to `block` was read.
    pub(super) fn push(&mut self, block: Block) {
        self.0.retain(|mark| mark.number < block.number);
        self.0.push(block);
        self.thin();
    }

    /// Nothing after `block` counts; without it, nothing at all.
    pub(super) fn cut(&mut self, block: Option<&Block>) {
        self.0.retain(|mark| block.is_some_and(|block| mark.number <= block.number));
    }

    /// Leaves out marks while the gap they leave is at most a quarter of the way from there to the cursor, and of those beyond
    /// the window all but the newest.
    fn thin(&mut self) {
        let Some((tip, older)) = self.0.split_last() else { return };
        let mut kept = vec![*tip];
        let mut newer = tip.number;
        for (place, mark) in older.iter().enumerate().rev() {
            let is_final = tip.number - mark.number >= REORG_WINDOW;
            let gap = place.checked_sub(1).map(|next| newer - older[next].number);
            if is_final || gap.is_none_or(|gap| gap > (tip.number - newer) / 4) {
                newer = mark.number;
                kept.push(*mark);
            }
            if is_final {
                break;
            }
        }
        kept.reverse();
        self.0 = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(number: u64) -> Block {
        Block { number, hash: [1; 32], time: number }
    }

    #[test]
    fn marks_are_few_close_near_the_cursor_and_reach_back_to_what_is_final() {
        let mut marks = Marks::default();
        for number in (0..5000).step_by(2) {
            marks.push(block(number));
            assert!(marks.as_slice().len() <= 48, "{}", marks.as_slice().len());
        }
        let numbers: Vec<u64> = marks.newest_first().map(|mark| mark.number).collect();
        assert_eq!(numbers[..6], [4998, 4996, 4994, 4992, 4990, 4988]);
        assert!(marks.oldest().is_some_and(|oldest| 4998 - oldest >= REORG_WINDOW && 4998 - oldest < 2 * REORG_WINDOW));
        assert_eq!(Marks::resume(marks.as_slice().to_vec()), Some(marks));
        assert_eq!(Marks::resume(vec![block(2), block(1)]), None);
    }

    #[test]
    fn one_step_over_many_blocks_leaves_only_what_is_final_and_the_cursor() {
        let mut marks = Marks::default();
        for number in [10, 20, 100_000, 100_000 + REORG_WINDOW] {
            marks.push(block(number));
        }
        assert_eq!(marks.as_slice(), [block(100_000), block(100_000 + REORG_WINDOW)]);
        marks.cut(Some(&block(100_000)));
        assert_eq!(marks.cursor(), Some(&block(100_000)));
        marks.cut(None);
        assert_eq!(marks.cursor(), None);
    }
}
