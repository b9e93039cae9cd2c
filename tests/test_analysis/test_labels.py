import itertools

from mmrecast.analysis.labels import NEAR, place_labels

FRAME = (0.0, 0.0, 300.0, 150.0)


def boxes(points, size):
    centres = place_labels(points, [size] * len(points), FRAME)
    width, height = size
    return [(x - width / 2, y - height / 2, x + width / 2, y + height / 2) for x, y in centres]


def disjoint(one, other):
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def test_a_lone_name_stands_to_the_right_of_its_point():
    assert place_labels([(100.0, 70.0)], [(60.0, 12.0)], FRAME) == [(100.0 + NEAR + 30.0, 70.0)]


def test_a_name_turns_left_at_the_right_edge():
    assert place_labels([(290.0, 70.0)], [(60.0, 12.0)], FRAME) == [(290.0 - NEAR - 30.0, 70.0)]


def test_names_of_points_in_a_heap_do_not_overlap():
    points = [(100.0 + dx, 70.0 + dy) for dx in (0, 3) for dy in (0, 2, 4)]
    placed = boxes(points, (60.0, 12.0))
    assert all(disjoint(one, other) for one, other in itertools.combinations(placed, 2))
    marks = [(x - NEAR / 2, y - NEAR / 2, x + NEAR / 2, y + NEAR / 2) for x, y in points]
    assert all(disjoint(name, mark) for name in placed for mark in marks)
    assert all(0 <= box[0] and box[2] <= 300 and 0 <= box[1] and box[3] <= 150 for box in placed)


def test_the_order_of_the_points_is_the_order_of_the_names():
    points = [(50.0, 20.0), (150.0, 120.0), (50.0, 80.0)]
    assert [y for _, y in place_labels(points, [(40.0, 12.0)] * 3, FRAME)] == [20.0, 120.0, 80.0]
