from pydantic import BaseModel, Field


class Item(BaseModel):
    name: str
    count: int = Field(1, ge=0, alias="n")


class Order(BaseModel):
    """What somebody wants."""

    customer: str
    items: list[Item] = []


class Receipt(BaseModel):
    customer: str
    total: int
    first: Item | None = None


class Model:
    def predict(self, order: Order) -> Receipt:
        total = sum(item.count for item in order.items)
        return Receipt(customer=order.customer, total=total, first=next(iter(order.items), None))

    def chat_completions(self, question: Item) -> list[Receipt]:
        return [Receipt(customer=question.name, total=question.count)]
