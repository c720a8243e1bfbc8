"""The text table."""

from znn_dask.network import Network, describe, zoo

EXPECTED = """\
edge group  type        kernel    stride  dilation  node group  channels  function        map size  field of view  parameters
----------  ----------  --------  ------  --------  ----------  --------  --------------  --------  -------------  ----------
                                                    image              1  input           6,21,21   1,1,1
a           conv        3,5,5             1,1,1     na                16  rectify_linear  4,17,17   3,5,5               1,216
pool        max_filter  1,2,2     1,2,2   1,1,1     npool             16  sum             4,16,16   3,6,6
                                                    context            2  input           4,18,18   1,1,1
b           conv        1,3,3             1,1,1     nb                16  rectify_linear  4,16,16   1,3,3                 304
npool-both  dummy                                   both              16  +               4,16,16   3,6,6
nb-both     dummy                                   both              16  sum             4,16,16   3,6,6
drop        dropout     keep 0.5                    ndrop             16  sum             4,16,16   3,6,6
out         conv        1,4,4             1,1,1     output             3  logistics       4,13,13   3,9,9                 771
crop        crop        0,1,1                       ncrop              3  sum             4,11,11   3,9,9

field of view  3,9,9
map sizes      image 6,21,21, context 4,18,18 -> ncrop 4,11,11
parameters     2,291
"""  # noqa: E501


def test_table() -> None:
    net = (
        Network()
        .input("image")
        .conv("a", 16, (3, 5, 5))
        .max_filter("pool", (1, 2, 2), (1, 2, 2))
        .input("context", 2)
        .conv("b", 16, (1, 3, 3))
        .sum("both", "npool", "nb", dense=True)
        .dropout("drop")
        .conv("out", 3, (1, 4, 4), "logistics", node="output")
        .crop("crop", (0, 1, 1))
    )
    assert describe(net, (4, 11, 11)) == EXPECTED.rstrip("\n")


def test_the_last_edge_into_a_group_carries_its_function_and_biases() -> None:
    table = describe(zoo.vd2d3d(), (4, 32, 32)).splitlines()
    first, last = (line for line in table if " nconv1c  " in line and line.startswith("conv1c"))
    assert first.split()[-5:] == ["24", "+", "8,111,111", "1,6,6", "2,304"]
    assert last.split()[-5:] == ["24", "rectify_linear", "8,111,111", "1,6,6", "2,328"]
    assert table[-3:] == [
        "field of view  5,85,85",
        "map sizes      input 8,116,116, input-r 8,116,116 -> output 4,32,32",
        "parameters     296,486",
    ]


def test_sizes_are_those_of_one_voxel_by_default() -> None:
    assert "map sizes      input 11,11,11 -> output 1,1,1" in describe(zoo.small3d())
