"""Reads a custom data format: CSV rows of `file, x1, y1, x2, y2, class` in pixels.

python tools/train_net.py --config-file configs/quickstart/bccd_R_18.yaml \
  DATASETS.TRAIN "('examples/csv_boxes.py:CsvBoxes:train.csv:images',)" \
  DATASETS.TEST "('examples/csv_boxes.py:CsvBoxes:val.csv:images',)"
"""

import csv

from dynamic_atss.data.annotations import Annotations
from dynamic_atss.data.dataset import DetectionDataset
from dynamic_atss.errors import UserError

COLUMNS = 6


class CsvBoxes(DetectionDataset):
    """Reads the data set `CsvBoxes(<rows.csv>, <image folder>, ...)`.

    An image without boxes is a row with only its file. Classes are in alphabetical order.
    """

    written_as = "examples/csv_boxes.py:CsvBoxes:<rows.csv>:<image folder>"

    def read(self, *, need_boxes: bool = False) -> Annotations:
        rows = self._rows()
        names = sorted({row[0] for row in rows})
        boxed = [row for row in rows if len(row) == COLUMNS]
        classes = sorted({row[5] for row in boxed})
        boxes = []
        for name, x1, y1, x2, y2, label in boxed:
            x, y = float(x1), float(y1)
            size = float(x2) - x, float(y2) - y
            boxes.append((names.index(name), classes.index(label), x, y, *size))
        return Annotations.of_rows(names, classes, boxes)

    def _rows(self) -> list[list[str]]:
        """Gives the cells of every row. Raises UserError for a row with a wrong number of cells."""
        try:
            with self.annotations.open(newline="", encoding="utf-8") as file:
                rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
        except OSError as error:
            raise UserError(f"{self.annotations}: {error.strerror}") from None
        for number, row in enumerate(rows, start=1):
            if len(row) not in (1, COLUMNS):
                raise UserError(
                    f"{self.annotations}: row {number} has {len(row)} cells, not "
                    f"{COLUMNS}: write file, x1, y1, x2, y2, class"
                )
        return rows
