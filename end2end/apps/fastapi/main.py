"""Rolls dice. The API's own documentation is at /docs."""

import logging
import random

from fastapi import FastAPI, Query
from pydantic import BaseModel

logging.basicConfig(level=logging.INFO, format="%(message)s")
app = FastAPI(title="Dice")


class Roll(BaseModel):
    dice: list[int]
    total: int


@app.get("/")
def roll(count: int = Query(2, ge=1, le=100), sides: int = Query(6, ge=2, le=1000)) -> Roll:
    dice = [random.randint(1, sides) for _ in range(count)]
    logging.info("%d dice of %d sides were rolled", count, sides)
    return Roll(dice=dice, total=sum(dice))


@app.get("/health")
def health() -> str:
    return "ok"
