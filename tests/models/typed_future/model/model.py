from __future__ import annotations

from pydantic import BaseModel, model_validator


class Model:
    def preprocess(self, tree: Tree) -> int:
        return tree.size()

    def predict(self, size: int) -> int:
        return size

    async def postprocess(self, size: int) -> Size:
        return Size(size=size)


class Tree(BaseModel):
    branches: list[Tree] = []
    fails: str = ""

    @model_validator(mode="after")
    def fail(self) -> Tree:
        if self.fails == "as pydantic asks":
            raise ValueError("no such tree")
        if self.fails:
            raise RuntimeError(self.fails)
        return self

    def size(self) -> int:
        return 1 + sum(branch.size() for branch in self.branches)


class Size(BaseModel):
    size: int
