//! The first elements in an order, equal ones as the C++ standard library of torch's builds leaves them: which of two
//! equal scores a model picks depends on it. Quickselect, quicksort and heaps with that library's choices of pivots.

/// Ranges of this many elements or fewer are sorted by insertion.
const SMALL: usize = 16;

/// Puts the first `count` elements in order to the front: with a heap where they are few, else by dividing. What
/// follows them is in no order.
pub fn first<T: Copy>(
    items: &mut [T],
    count: usize,
    sorted: bool,
    before: impl Fn(&T, &T) -> bool,
) {
    if count == 0 || items.is_empty() {
        return;
    }
    if count * 64 <= items.len() {
        select_by_heap(items, count, &before);
        sort_heap(&mut items[..count], &before);
        return;
    }
    select(items, count - 1, &before);
    if sorted {
        sort(&mut items[..count - 1], &before);
    }
}

/// The element that belongs at `place` is there, those before it in front of it.
fn select<T: Copy>(items: &mut [T], place: usize, before: &impl Fn(&T, &T) -> bool) {
    let (mut start, mut end) = (0, items.len());
    let mut depth = 2 * end.ilog2();
    while end - start > 3 {
        if depth == 0 {
            select_by_heap(&mut items[start..end], place + 1 - start, before);
            items.swap(start, place);
            return;
        }
        depth -= 1;
        let cut = start + divide(&mut items[start..end], before);
        if cut <= place {
            start = cut;
        } else {
            end = cut;
        }
    }
    insertion_sort(&mut items[start..end], before);
}

fn sort<T: Copy>(items: &mut [T], before: &impl Fn(&T, &T) -> bool) {
    if items.is_empty() {
        return;
    }
    let depth = 2 * items.len().ilog2();
    sort_roughly(items, depth, before);
    let rough = items.len().min(SMALL);
    insertion_sort(&mut items[..rough], before);
    for place in rough..items.len() {
        insert(items, place, before);
    }
}

/// Until no more than [`SMALL`] neighbours are out of order.
fn sort_roughly<T: Copy>(mut items: &mut [T], mut depth: u32, before: &impl Fn(&T, &T) -> bool) {
    while items.len() > SMALL {
        if depth == 0 {
            select_by_heap(items, items.len(), before);
            sort_heap(items, before);
            return;
        }
        depth -= 1;
        let cut = divide(items, before);
        let (front, back) = items.split_at_mut(cut);
        sort_roughly(back, depth, before);
        items = front;
    }
}

/// Divides by the median of three; returns where the second part begins.
fn divide<T: Copy>(items: &mut [T], before: &impl Fn(&T, &T) -> bool) -> usize {
    let (second, middle, last) = (1, items.len() / 2, items.len() - 1);
    let is_before = |a: usize, b: usize| before(&items[a], &items[b]);
    let median = if is_before(second, middle) {
        if is_before(middle, last) {
            middle
        } else if is_before(second, last) {
            last
        } else {
            second
        }
    } else if is_before(second, last) {
        second
    } else if is_before(middle, last) {
        last
    } else {
        middle
    };
    items.swap(0, median);
    let pivot = items[0];
    let (mut left, mut right) = (1, items.len());
    loop {
        while left < items.len() && before(&items[left], &pivot) {
            left += 1;
        }
        right -= 1;
        while right > 0 && before(&pivot, &items[right]) {
            right -= 1;
        }
        if left >= right {
            return left;
        }
        items.swap(left, right);
        left += 1;
    }
}

fn insertion_sort<T: Copy>(items: &mut [T], before: &impl Fn(&T, &T) -> bool) {
    for place in 1..items.len() {
        if before(&items[place], &items[0]) {
            items[..=place].rotate_right(1);
        } else {
            insert(items, place, before);
        }
    }
}

/// Moves one element forward, past those that it comes before.
fn insert<T: Copy>(items: &mut [T], mut place: usize, before: &impl Fn(&T, &T) -> bool) {
    while place > 0 && before(&items[place], &items[place - 1]) {
        items.swap(place, place - 1);
        place -= 1;
    }
}

/// The first `count` in order are in front, as a heap.
fn select_by_heap<T: Copy>(items: &mut [T], count: usize, before: &impl Fn(&T, &T) -> bool) {
    for parent in (0..count / 2).rev() {
        let value = items[parent];
        sift(&mut items[..count], parent, value, before);
    }
    for place in count..items.len() {
        if before(&items[place], &items[0]) {
            let value = items[place];
            items[place] = items[0];
            sift(&mut items[..count], 0, value, before);
        }
    }
}

fn sort_heap<T: Copy>(items: &mut [T], before: &impl Fn(&T, &T) -> bool) {
    for end in (1..items.len()).rev() {
        let value = items[end];
        items[end] = items[0];
        sift(&mut items[..end], 0, value, before);
    }
}

/// Fills `hole` from below, down to a leaf, and lets `value` rise from there.
fn sift<T: Copy>(heap: &mut [T], mut hole: usize, value: T, before: &impl Fn(&T, &T) -> bool) {
    let top = hole;
    let mut child = 2 * hole + 2;
    while child < heap.len() {
        if before(&heap[child], &heap[child - 1]) {
            child -= 1;
        }
        heap[hole] = heap[child];
        hole = child;
        child = 2 * hole + 2;
    }
    if child == heap.len() {
        heap[hole] = heap[child - 1];
        hole = child - 1;
    }
    while hole > top && before(&heap[(hole - 1) / 2], &value) {
        heap[hole] = heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    heap[hole] = value;
}
