"""The subsets that a model is judged on."""

from smvae_core.subsets import all_subsets, few_subsets, in_words, judged_subsets, told_subsets

NAMES = tuple("abcdefghi")


def test_up_to_six_modalities_every_subset_is_judged_and_then_a_number_that_does_not_double() -> None:
    for count in range(1, 7):
        assert judged_subsets(NAMES[:count]) == all_subsets(NAMES[:count])
    assert told_subsets(NAMES[:6]) == "all subsets"
    for count in (7, 8, 9):
        names = NAMES[:count]
        judged = judged_subsets(names)
        assert len(judged) == 2 * count + 1 and set(judged) < set(all_subsets(names))
        assert judged[0] == names and {(name,) for name in names} < set(judged)
        assert told_subsets(names).startswith(f"{len(judged)} subsets (all {count} modalities")


def test_no_subset_is_named_twice_or_empty() -> None:
    assert few_subsets("a") == [("a",)]
    assert few_subsets("ab") == [("a", "b"), ("b",), ("a",)]
    assert len(set(few_subsets(NAMES))) == len(few_subsets(NAMES)) == 19


def test_of_many_modalities_words_tell_what_a_subset_lacks() -> None:
    few, many = tuple("abcd"), tuple("abcdefg")
    assert [in_words(subset, few) for subset in (few, few[1:])] == ["a + b + c + d", "b + c + d"]
    assert [in_words(subset, many) for subset in (many, many[1:], many[2:4])] == ["all 7", "all but a", "c + d"]
