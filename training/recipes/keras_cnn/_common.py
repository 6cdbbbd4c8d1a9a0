"""What the report's networks from scratch share: everything but their blocks and the widths of their heads.

Images of 100 × 75 pixels (width × height), Adam at 1e-4, batches of 32, up to 200 epochs; the rate is
lowered after 3 epochs without gain (to 0.3 of itself; not told) and training stops after 10. A block is two
convolutions, max pooling and dropout, which rises from block to block (by how much is not told: 0.1 a
block here). One hidden layer with dropout 0.5.
"""

from training.recipe import Block, Head, MemberRecipe, Phase, Recipe, ScratchCNN

IMAGE_SIZE = (75, 100)
PHASE = Phase("all", epochs=200, learning_rate=1e-4, plateau_patience=3, stop_patience=10)


def network(name: str, filters: tuple[int, ...], hidden: int) -> Recipe:
    """The recipe ``name`` of a network with one block for each number of ``filters``."""
    blocks = tuple(
        Block(count, convolutions=2, dropout=round(0.1 * number, 1))
        for number, count in enumerate(filters, start=1)
    )
    member = MemberRecipe(
        name="cnn",
        backbone=ScratchCNN(blocks),
        head=Head(pooling="flatten", hidden=(hidden,), dropout=0.5),
        phases=(PHASE,),
        starting_weights="none",
    )
    return Recipe(name, (member,), image_size=IMAGE_SIZE, batch_size=32, optimizer="adam", clip_norm=0.0)
